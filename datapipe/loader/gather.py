"""From blocks to batches: rows of a stretch are found once, columns of a batch written straight into its buffers.

What enters: a stretch of the schedule, its blocks, the column plan. What leaves: per batch a dict of numpy arrays and
Python lists, or an Arrow table. Invariant: rows in exactly the scheduled order; no row ever becomes a Python object, a
string column's values apart.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, final

import numpy as np
import pyarrow as pa

from datapipe.loader.block import Block, flat_values
from datapipe.loader.columns import Column, Kind
from datapipe.loader.packed import SEGMENTS, add_positions
from datapipe.loader.rows import ScatteredRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from datapipe.device import BufferPool
    from datapipe.loader.schedule import Stretch

    Batch = dict[str, Any]


@final
class Prepared:
    """A stretch whose blocks are in memory: knows where every value of its batches is. Read-only, shared by threads.

    Args:
        columns: the plan; None where batches are Arrow tables.
        blocks: in the order of `stretch.blocks`; held until this object goes.
    """

    def __init__(self, stretch: Stretch, blocks: Sequence[Block], columns: Sequence[Column] | None) -> None:
        self.stretch = stretch
        self._blocks = blocks
        self._columns = columns
        self._scattered: list[ScatteredRows] = []
        fixed = [column for column in columns or () if column.kind is Kind.FIXED]
        if fixed:
            addresses = np.array([block.addresses for block in blocks], np.int64).reshape(len(blocks), len(fixed))
            for at, column in enumerate(fixed):
                assert column.source is not None
                width = int(np.prod(column.shape, dtype=np.int64))
                self._scattered.append(
                    ScatteredRows(addresses[:, at], stretch.slot, stretch.row, column.source, width),
                )
        names = list(blocks[0].arrays) if blocks else []
        self._arrays = dict(zip(names, _take(blocks, names, stretch), strict=True))

    def batch(self, at: int, pool: BufferPool, positions: npt.DTypeLike = np.int64) -> Batch:
        """The columns of batch `at` of the stretch; `positions` is the dtype of position_ids, where it is packed."""
        first, last = self.stretch.cuts[at], self.stretch.cuts[at + 1]
        batch: Batch = {}
        fixed = iter(self._scattered)
        for column in self._columns or ():
            if column.kind is Kind.FIXED:
                out = pool.empty((last - first, *column.shape), column.dtype)
                next(fixed).copy_to(out, first, last)
                batch[column.name] = out
            else:
                _add_arrow(batch, column, self._slice(column.name, first, last), pool)
        if SEGMENTS in batch:
            add_positions(batch, pool, positions)
        return batch

    def table(self, at: int) -> pa.Table:
        """Batch `at` as a table (where everything stayed Arrow); without rows or columns if no block was read."""
        first, last = self.stretch.cuts[at], self.stretch.cuts[at + 1]
        return pa.table({name: self._slice(name, first, last) for name in self._arrays})

    def _slice(self, name: str, first: int, last: int) -> pa.Array:
        array = self._arrays.get(name)
        # A rank's share of the last batch may be empty, and then no block was read.
        return pa.nulls(0) if array is None else array.slice(first, last - first)


def batch_of_table(table: pa.Table, columns: Sequence[Column], pool: BufferPool) -> Batch:
    """The same for rows that are one table already (a table transform's output)."""
    block = Block(table, columns)  # checks nulls and ranges
    rows = np.arange(table.num_rows)
    addresses = iter(block.addresses)
    batch: Batch = {}
    for column in columns:
        if column.kind is Kind.FIXED:
            assert column.source is not None
            out = pool.empty((len(rows), *column.shape), column.dtype)
            width = int(np.prod(column.shape, dtype=np.int64))
            place = np.array([next(addresses)], np.int64)
            scattered = ScatteredRows(place, np.zeros(len(rows), np.int64), rows, column.source, width)
            scattered.copy_to(out, 0, len(rows))
            batch[column.name] = out
        else:
            _add_arrow(batch, column, block.arrays[column.name], pool)
    if SEGMENTS in batch:
        add_positions(batch, pool)
    return batch


def _take(blocks: Sequence[Block], names: Sequence[str], stretch: Stretch) -> list[pa.Array]:
    """The Arrow columns of a stretch, each one array in the scheduled order: a take per block, then one to reorder."""
    if not names:
        return []
    order = np.argsort(stretch.slot, kind="stable")
    edges = np.searchsorted(stretch.slot[order], np.arange(len(blocks) + 1))
    picks = [pa.array(stretch.row[order[a:b]]) for a, b in itertools.pairwise(edges.tolist())]
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    place = pa.array(back)
    taken = []
    for name in names:
        parts = [block.arrays[name].take(pick) for block, pick in zip(blocks, picks, strict=True) if len(pick)]
        taken.append(pa.concat_arrays(parts or [blocks[0].arrays[name].slice(0, 0)]).take(place))
    return taken


def _add_arrow(batch: Batch, column: Column, array: pa.Array, pool: BufferPool) -> None:
    if column.kind is Kind.OBJECTS:
        batch[column.name] = array.to_numpy(zero_copy_only=False).tolist()
        return
    rows = len(array)
    lengths = np.zeros(rows, np.int64)
    if rows:
        lengths = np.diff(array.offsets.to_numpy()).astype(np.int64)
    longest = int(lengths.max(initial=0))
    out = pool.empty((rows, longest), column.dtype)
    out[...] = 0
    if out.size:
        out[np.arange(longest) < lengths[:, None]] = flat_values(array.flatten(), column)
    batch[column.name] = out
    batch[f"{column.name}_lengths"] = lengths
