"""How long each row is, without reading it: from a column of lengths, or from a list column's offsets.

What enters: a dataset, and which column's rows are measured. What leaves: int64 lengths per block. Invariant: a pure
function of the stored bytes; of the values themselves nothing is kept.

A narrow column is a few bytes a row. Offsets of an Arrow file are read alone (the file is mapped). Parquet stores a
list's lengths among its values, so that without a narrow column that column is decoded twice: once for them.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from datapipe.errors import ConfigError, DatapipeError, LoaderError
from datapipe.loader.column_types import value_type
from datapipe.loader.values import plain
from datapipe.locks import new_lock

if TYPE_CHECKING:
    import numpy.typing as npt

    from datapipe.dataset import Dataset
    from datapipe.loader.mixture import Mixture

    Ints = npt.NDArray[np.int64]

_KEPT_BYTES: Final = 64 << 20
"""Lengths remembered: a window is counted first and arranged later; 16 million rows."""
READ_THREADS: Final = 8
"""A narrow column of a row group is a few kB: its reads wait for the disk or the network, and are done side by side."""
TOKEN_COLUMNS: Final = ("tokens", "input_ids")
SOUND_COLUMNS: Final = ("audio", "samples")
_NARROW: Final = {**dict.fromkeys(TOKEN_COLUMNS, "n_tokens"), **dict.fromkeys(SOUND_COLUMNS, "frames")}
"""The columns of lengths that the steps `tokenize`, and `audio_check` and `audio_decode`, write."""


def measured_column(dataset: Dataset | Mixture, wanted: str | None, defaults: tuple[str, ...]) -> str:
    """The column whose rows are measured: the one named, else a default, else the only one of variable length.

    Raises:
        ConfigError: there is none such, or it is of no variable length.
    """
    schema = dataset.whole_schema
    found: list[str] = [field.name for field in schema if _varies(field.type)]
    if wanted is not None:
        if wanted not in found:
            raise ConfigError(
                f"column={wanted!r}", expected="a column of lists or text: " + (", ".join(found) or "none")
            )
        return wanted
    chosen = [name for name in defaults if name in found] or (found if len(found) == 1 else [])
    packed = [field.name for field in schema if field.name in defaults and pt.is_fixed_size_list(field.type)]
    # Beside packed rows the one text is their row_id, which nobody means.
    if chosen and (chosen[0] in defaults or not packed or _is_list(value_type(schema.field(chosen[0]).type))):
        return str(chosen[0])
    if packed:
        raise ConfigError(
            f"the rows of column {packed[0]!r} are of one length ({schema.field(packed[0]).type})",
            expected="lists of any length",
            fix="they are packed already: leave pack and bucket out",
        )
    raise ConfigError(
        f"which column is measured? There are {', '.join(schema.names)}",
        expected=f"a column of lists named {' or '.join(defaults)}",
        fix=f"column={found[0]!r}" if found else "tokenize first: lengths are those of lists",
    )


def _is_list(kind: pa.DataType) -> bool:
    return bool(pt.is_list(kind) or pt.is_large_list(kind))


def _varies(kind: pa.DataType) -> bool:
    kind = value_type(kind)
    return bool(
        _is_list(kind)
        or pt.is_string(kind)
        or pt.is_large_string(kind)
        or pt.is_binary(kind)
        or pt.is_large_binary(kind)
    )


@final
class Lengths:
    """Lengths of a dataset's rows, block by block; threads share it.

    Args:
        column: the column measured. length: a column of integers that holds its lengths, or `column` itself: by its
            own offsets. None: one named n_<column> or <column>_length (of tokens and input_ids also n_tokens, of
            sounds frames) if there is one, else its own offsets.

    Attributes:
        column: the column measured. source: the column that is read.

    Raises:
        ConfigError: `length` names no column of integers.
    """

    def __init__(self, dataset: Dataset | Mixture, column: str, length: str | None = None) -> None:
        schema = dataset.whole_schema
        whole = [field.name for field in schema if pt.is_integer(value_type(field.type))]
        if length is not None and length not in {column, *whole}:
            raise ConfigError(
                f"length={length!r}", expected=f"{column!r} itself, or a column of integers: " + ", ".join(whole)
            )
        names = (f"n_{column}", f"{column}_length", *((_NARROW[column],) if column in _NARROW else ()))
        self.column = column
        self.source = length or next((name for name in names if name in whole), column)
        self._data = dataset.select([self.source])
        self._lock = new_lock()
        self._held: OrderedDict[int, npt.NDArray[Any]] = OrderedDict()
        self._bytes = 0

    def of(self, block: int) -> Ints:
        """Lengths of a block's rows: int64[rows]; a null is 0 long.

        Raises:
            LoaderError: a length is negative. StorageError, IntegrityError: the block cannot be read.
        """
        with self._lock:
            held = self._held.get(block)
            if held is not None:
                self._held.move_to_end(block)
                return held.astype(np.int64)
        try:
            lengths = _lengths(self._data.fetch(block).decode().column(self.source))
        except DatapipeError as unread:
            unread.add_note(
                f"batches are planned from the lengths in column {self.source!r}: without them no other row group can"
                ' stand in for this one, on_error="quarantine" or not'
            )
            raise
        if len(lengths) and int(lengths.min()) < 0:
            group = self._data.row_groups[block]
            error = LoaderError(f"column {self.source!r} holds {int(lengths.min())}", expected="lengths from 0")
            error.add_note(f"shard {group.path}, row group {group.group}")
            raise error
        narrow = lengths.astype(np.uint32) if not len(lengths) or int(lengths.max()) < 1 << 32 else lengths
        with self._lock:
            if block not in self._held:
                self._held[block] = narrow
                self._bytes += narrow.nbytes
                while self._bytes > _KEPT_BYTES and len(self._held) > 1:
                    self._bytes -= self._held.popitem(last=False)[1].nbytes
        return lengths

    def of_blocks(self, blocks: Ints, *, threads: int = READ_THREADS) -> Ints:
        """Lengths of several blocks' rows, end to end, read by as many threads as are said."""
        wanted = blocks.tolist()
        threads = min(threads, sum(block not in self._held for block in wanted))
        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                return np.concatenate(list(pool.map(self.of, wanted)))
        return np.concatenate([np.zeros(0, np.int64), *map(self.of, wanted)])


def _lengths(column: pa.ChunkedArray) -> Ints:
    parts = []
    for chunk in column.chunks:
        array = plain(chunk)
        kind = array.type
        if pt.is_list(kind) or pt.is_large_list(kind):
            array = pc.list_value_length(array)
        elif not pt.is_integer(kind):
            array = pc.binary_length(array)
        parts.append(pc.fill_null(array, 0).to_numpy(zero_copy_only=False).astype(np.int64))
    return np.concatenate([np.zeros(0, np.int64), *parts])
