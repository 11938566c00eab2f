"""Files of a dataset's index without some rows: what later deliveries are compared with, and what became of each row.

What enters: a file of the index, the positions in its split that are erased. What leaves: the bytes of the file without
them; None where nothing is left. Invariant: of other rows everything is as it was.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.storage import Store

    Positions = npt.NDArray[np.int64]


def without_rows(store: Store, path: str, kind: str, positions: Positions) -> bytes | None:
    """A file of the index without some rows of its split.

    Args:
        kind: as the index names it ("hashes", "bands", …); of kinds without rows of their own the bytes are as they
            were.
    """
    rewrite = _KINDS.get(kind)
    return store.read(path) if rewrite is None else rewrite(store, path, positions)


def _hashes(store: Store, path: str, positions: Positions) -> bytes | None:
    import numpy as np

    from datapipe.preprocess.hashes import read_hashes

    records = read_hashes(store, path)
    left = records[~np.isin(records["position"], positions)]
    begins = np.searchsorted((left["high"] >> np.uint64(56)).astype(np.int64), np.arange(257)).astype("<u8")
    return begins.tobytes() + left.tobytes() if len(left) else None


def _image_hashes(store: Store, path: str, positions: Positions) -> bytes | None:
    import numpy as np

    from datapipe.preprocess.near.image_links import record_type

    records = np.frombuffer(store.read(path), record_type())
    return records[~np.isin(records["position"], positions)].tobytes() or None


def _bands(store: Store, path: str, positions: Positions) -> bytes | None:
    from datapipe.preprocess.near.candidates import band_type

    return _records(store, path, positions, band_type())


def _pieces(store: Store, path: str, positions: Positions) -> bytes | None:
    from datapipe.preprocess.near.repeated_pieces import piece_type

    return _records(store, path, positions, piece_type())


def _records(store: Store, path: str, positions: Positions, kind: Any) -> bytes | None:
    import numpy as np

    from datapipe.preprocess.near.record_file import CLASSES, begins_of, read_begins, read_records

    records = read_records(store, path, kind, 0, int(read_begins(store, path)[CLASSES]))
    left = records[~np.isin(records["position"], positions)]
    return begins_of(left).astype("<u8").tobytes() + left.tobytes() if len(left) else None


def _sets(store: Store, path: str, positions: Positions) -> bytes | None:
    """Of what is erased the shingles are overwritten, and its record is taken out: others stay where they were."""
    import numpy as np

    from datapipe.preprocess.near.sets_file import SetsFile

    data = bytearray(store.read(path))
    records = SetsFile(store, path).records
    gone = np.isin(records["position"], positions)
    for record in records[gone]:
        begin = 4 * int(record["begin"])
        end = begin + 4 * int(record["kept"])
        data[begin:end] = bytes(end - begin)
    left = records[~gone]
    if not len(left):
        return None
    tail, magic = 16, bytes(data[-8:])
    shingles = len(data) - tail - records.nbytes
    return bytes(data[:shingles]) + left.tobytes() + np.array([len(left)], "<u8").tobytes() + magic


_KINDS: Final[dict[str, Callable[[Store, str, Positions], bytes | None]]] = {
    "hashes": _hashes,
    "ids": _hashes,
    "image_hashes": _image_hashes,
    "bands": _bands,
    "lines": _pieces,
    "paragraphs": _pieces,
    "sets": _sets,
}


def without_signals(table: pa.Table, rows: Any, *, corpus: bool) -> pa.Table:
    """A signals table without what it says of some rows.

    Args:
        rows: boolean[n]: those that are erased. corpus: whether the file counts every row of the split: there the row
            stays, as one that was dropped, without its id and without anything that was measured.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from datapipe.preprocess.suppression import REASON, STEP

    if not corpus:
        return table.filter(pc.invert(rows))
    said = {"step": STEP, "kind": "drop", "reason": REASON}
    columns = {}
    for field in table.schema:
        if field.name == "position":
            columns[field.name] = table.column(field.name)
            continue
        columns[field.name] = pc.if_else(rows, pa.scalar(said.get(field.name), field.type), table.column(field.name))
    return pa.table(columns, schema=table.schema)


def signals_bytes(table: pa.Table) -> bytes:
    """A signals table as the file that a run would have written."""
    import pyarrow.parquet as pq

    from datapipe.preprocess.signals_file import ROW_GROUP, writing

    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=ROW_GROUP, **writing(table.schema))
    return sink.getvalue()
