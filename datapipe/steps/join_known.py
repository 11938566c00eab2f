"""What is known of each key, in memory: found by hash, compared by value.

What enters: the records of a join's files, or of a range of their keys. What leaves: for any keys the rows that hold
what is known of them. Invariant: exact for any keys, two of one hash included; some 24 bytes a record beside the keys
and the columns themselves (a dict of Python's texts takes 130).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from datapipe.steps.join_right import KEY, one_each, same_types

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa


@final
@dataclass(frozen=True, eq=False)
class Known:
    """What is known of each key.

    Attributes:
        columns: what is joined. keys: large_string[n], the key of each row. hashes: uint64[n], ascending.
        rows: int64[n], the row of each hash.
    """

    columns: pa.Table
    keys: pa.Array
    hashes: npt.NDArray[np.uint64]
    rows: npt.NDArray[np.int64]

    def rows_of(self, keys: pa.Array) -> pa.Array:
        """The row of each key (large_string[n]): int64[n], null where there is none."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        coded = pc.dictionary_encode(keys)
        asked = coded.dictionary  # each different key is looked up once
        hashes = hashes_of(asked)
        places = np.searchsorted(self.hashes, hashes)
        found = np.full(len(asked), -1, np.int64)
        open_ = np.arange(len(asked))
        while True:
            open_ = open_[places[open_] < len(self.hashes)]
            open_ = open_[self.hashes[places[open_]] == hashes[open_]]
            if not len(open_):
                break
            rows = self.rows[places[open_]]
            same = pc.equal(self.keys.take(pa.array(rows)), asked.take(pa.array(open_))).to_numpy(zero_copy_only=False)
            found[open_[same]] = rows[same]
            # Another key of the same hash: the next place may hold it.
            open_ = open_[~same]
            places[open_] += 1
        return pa.array(found, mask=found < 0).take(coded.indices)


def hashes_of(keys: pa.Array) -> npt.NDArray[np.uint64]:
    """XXH3 (64 bits) of the UTF-8 bytes of each key, none of them null: uint64[n]."""
    import numpy as np
    from xxhash import xxh3_64_intdigest

    return np.fromiter((xxh3_64_intdigest(key.encode()) for key in keys.to_pylist()), np.uint64, len(keys))


def known_of(tables: list[pa.Table], duplicates: str) -> Known:
    """The records of some keys, one each.

    Args:
        tables: from `right_batches`, in the order of the files. duplicates: see `join_right.one_each`.

    Raises:
        SchemaError: the files have unlike types. StepError: a key has several records, and that is an error.
    """
    import numpy as np
    import pyarrow as pa

    same_types([table.schema for table in tables])
    table = one_each(pa.concat_tables(tables), duplicates).combine_chunks()
    names = [name for name in table.column_names if not name.startswith("__")]
    chunks = table.column(KEY).chunks
    keys = pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_string())
    hashes = hashes_of(keys)
    order = np.argsort(hashes, kind="stable")
    return Known(table.select(names), keys, hashes[order], order)
