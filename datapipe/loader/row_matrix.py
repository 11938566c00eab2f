"""Many small columns kept row by row, so that a row of a shuffled batch is one read and not one for each column.

What enters: the columns of a row group. What leaves: a matrix of bytes, one row for each of the table's; and from such
matrices, the columns of a batch. Invariant: the same values as column by column.

A shuffled batch of a table of 40 columns of 4 bytes reads 40 scattered cache lines a row when columns lie apart, and
three when they lie together. Measured on 2 cores, rows from 250 MB, ns a row: gathered column by column 194; row by
row 25, and 30 to bring a row group into this order once, and 9 to cast a batch, which stays row by row: the columns
delivered are views of it with a stride, unless contiguous ones are asked for (for a device that copies them), which
takes 17 to 35.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from datapipe.device import BufferPool
from datapipe.loader.rows import ScatteredRows, address_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from datapipe.loader.columns import Column

    Bytes = npt.NDArray[np.uint8]

_ALIGN: Final = 8
"""Rows begin at multiples of the widest item."""
_STEP_BYTES: Final = 256 << 10
"""Rows are taken apart in steps of this size: what was just gathered is still in the L2 cache."""
_IDLE_BYTES: Final = 96 << 20
"""Memory of row groups let go that is kept for those to come: several lanes leave a window at once. Fresh memory has
to be cleared first: of filling a matrix, half the time."""


@final
class _Run:
    """Columns side by side of one stored and one delivered dtype: they are taken apart in one call."""

    def __init__(self, columns: Sequence[Column], offset: int) -> None:
        first = columns[0]
        self.source, self.out = first.stored, first.dtype
        self.columns = [(column.name, column.shape) for column in columns]
        self.count = sum(column.width for column in columns)
        self.offset = offset
        self.end = offset + self.count * self.source.itemsize
        self.scalars = all(column.shape == () for column in columns)


@final
class RowLayout:
    """Where each column's values stand within a row.

    Attributes:
        nbytes: of a row. names: of the columns, in the order in which `fill` takes their values.

    Args:
        contiguous: deliver scalars as contiguous arrays, not as views of rows.
    """

    def __init__(self, columns: Sequence[Column], *, contiguous: bool = False) -> None:
        self._contiguous = contiguous
        # The widest items first: then every item is aligned. Scalars and lists apart, as they are taken apart unlike.
        order = sorted(columns, key=lambda c: (-c.stored.itemsize, c.stored.str, c.dtype.str, c.shape))
        self.names = [column.name for column in order]
        self._places: list[tuple[int, int, np.dtype[Any]]] = []
        self._runs: list[_Run] = []
        at = 0
        run: list[Column] = []
        for column in order:
            if run and _alike(run[0]) != _alike(column):
                self._close(run, at)
                run = []
            run.append(column)
            self._places.append((at, column.width, column.stored))
            at += column.nbytes
        self._close(run, at)
        self.nbytes = -(-at // _ALIGN) * _ALIGN
        self._memory = BufferPool(idle_bytes=_IDLE_BYTES)

    def _close(self, run: list[Column], end: int) -> None:
        if run:
            self._runs.append(_Run(run, end - sum(column.nbytes for column in run)))

    def fill(self, values: Sequence[npt.NDArray[Any]], rows: int) -> Bytes:
        """Bring columns together: uint8[rows, nbytes]; `values` in the order of `names`, each flat."""
        matrix = self._memory_of(rows)
        # Column by column over all rows: by parts that fit the cache it was slower, by a third and more (measured).
        for (at, width, dtype), each in zip(self._places, values, strict=True):
            target = matrix[:, at : at + width * dtype.itemsize].view(dtype)
            if width == 1:
                target[:, 0] = each
            else:
                target[...] = each.reshape(-1, width)
        return matrix

    def _memory_of(self, rows: int) -> Bytes:
        """Memory that begins a whole number of rows from any other's: rows of all matrices are gathered as of one."""
        memory = self._memory.empty(((rows + 1) * self.nbytes,), np.uint8)
        first = -address_of(memory) % self.nbytes
        return memory[first : first + rows * self.nbytes].reshape(rows, self.nbytes)

    def rows(self, addresses: npt.NDArray[np.int64], slot: Any, row: Any) -> ScatteredRows:
        """Rows at given places of given matrices (see `ScatteredRows`)."""
        return ScatteredRows(addresses, slot, row, np.dtype(np.uint64), self.nbytes // _ALIGN)

    def batch(self, found: ScatteredRows, first: int, last: int, pool: BufferPool) -> dict[str, npt.NDArray[Any]]:
        """The columns of the wanted rows [first, last)."""
        rows = last - first
        across = [self._contiguous and run.scalars for run in self._runs]
        outs = [
            pool.empty((run.count, rows) if turned else (rows, run.count), run.out)
            for run, turned in zip(self._runs, across, strict=True)
        ]
        step = max(1, _STEP_BYTES // self.nbytes)
        memory = self._memory.empty((min(step, rows) * self.nbytes // _ALIGN,), np.uint64)
        for start in range(0, rows, step):
            stop = min(rows, start + step)
            part = found.take(first + start, first + stop, memory).view(np.uint8).reshape(-1, self.nbytes)
            for run, turned, out in zip(self._runs, across, outs, strict=True):
                values = part[:, run.offset : run.end].view(run.source)
                if turned:
                    out[:, start:stop] = values.T
                else:
                    out[start:stop] = values
        batch: dict[str, npt.NDArray[Any]] = {}
        for run, turned, out in zip(self._runs, across, outs, strict=True):
            columns = out if turned else out.T
            for at, (name, shape) in enumerate(run.columns):
                batch[name] = out.reshape(rows, *shape) if shape else columns[at]
        return batch


def _alike(column: Column) -> tuple[Any, ...]:
    # A list column is a run of its own: it is delivered as [B, n], contiguous.
    return (column.stored, column.dtype, column.name if column.shape else None)
