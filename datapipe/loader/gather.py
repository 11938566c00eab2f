"""From blocks to batches: rows of a stretch are found once, columns of a batch written straight into its buffers.

What enters: a stretch of the schedule, its blocks, the column plan. What leaves: per batch a dict of numpy arrays and
Python lists, or an Arrow table. Invariant: rows in exactly the scheduled order; no row ever becomes a Python object,
the values of text and of nested columns apart.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, final

import numpy as np
import pyarrow as pa

from datapipe.dataset.taking import take_values
from datapipe.loader.block import Block
from datapipe.loader.column_types import Reading
from datapipe.loader.columns import ColumnPlan, Kind
from datapipe.loader.lists import Lists
from datapipe.loader.packed import SEGMENTS, add_positions
from datapipe.loader.rows import ScatteredRows
from datapipe.loader.texts import Texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from datapipe.device import BufferPool
    from datapipe.loader.schedule import Stretch

    Batch = dict[str, Any]
    Ints = npt.NDArray[np.int64]


@final
class Prepared:
    """A stretch whose blocks are in memory: knows where every value of its batches is. Read-only, shared by threads.

    Args:
        columns: the plan; None where batches are Arrow tables.
        blocks: in the order of `stretch.blocks`; held until this object goes.
    """

    def __init__(self, stretch: Stretch, blocks: Sequence[Block], columns: ColumnPlan | None) -> None:
        self.stretch = stretch
        self._blocks = blocks
        self._rows = None if columns is None else _Rows(columns, blocks, stretch.slot, stretch.row)
        self._tables = None if columns is not None else _take(blocks, _names(blocks), stretch.slot, stretch.row)

    def batch(self, at: int, pool: BufferPool, positions: npt.DTypeLike = np.int64) -> Batch:
        """The columns of batch `at` of the stretch; `positions` is the dtype of position_ids, where it is packed."""
        assert self._rows is not None
        batch = self._rows.batch(self.stretch.cuts[at], self.stretch.cuts[at + 1], pool)
        if SEGMENTS in batch:
            add_positions(batch, pool, positions)
        return batch

    def table(self, at: int) -> pa.Table:
        """Batch `at` as a table (where everything stayed Arrow); without rows or columns if no block was read."""
        assert self._tables is not None
        first, last = self.stretch.cuts[at], self.stretch.cuts[at + 1]
        return pa.table({name: array.slice(first, last - first) for name, array in self._tables.items()})


def batch_of_table(table: pa.Table, columns: ColumnPlan, pool: BufferPool) -> Batch:
    """The same for rows that are one table already (a table transform's output)."""
    rows = np.arange(table.num_rows)
    block = Block(table, columns)  # checks nulls and ranges
    batch = _Rows(columns, [block], np.zeros(len(rows), np.int64), rows).batch(0, len(rows), pool)
    if SEGMENTS in batch:
        add_positions(batch, pool)
    return batch


@final
class _Rows:
    """Wanted rows of all columns: in blocks[slot[i]], row[i]."""

    def __init__(self, columns: ColumnPlan, blocks: Sequence[Block], slot: Ints, row: Ints) -> None:
        self._columns = columns
        self._blocks = blocks  # what is found by address must stay where it is
        self._layout = columns.layout
        if self._layout is not None:
            self._together = self._layout.rows(np.array([b.matrix for b in blocks], np.int64), slot, row)
        self._fixed: dict[str, ScatteredRows] = {}
        self._texts: dict[str, Texts] = {}
        self._lists: dict[str, Lists] = {}
        for column in columns:
            name = column.name
            if column.kind is Kind.TEXT:
                self._texts[name] = Texts(name, [block.texts[name] for block in blocks], slot, row)
            elif column.kind is Kind.RAGGED:
                self._lists[name] = Lists(column, [block.lists[name] for block in blocks], slot, row)
            elif column.kind is Kind.FIXED and not column.together:
                addresses = np.array([block.addresses[name] for block in blocks], np.int64)
                self._fixed[name] = ScatteredRows(addresses, slot, row, column.stored, column.width)
        self._objects = _take(blocks, [c.name for c in columns if c.kind is Kind.OBJECTS], slot, row)

    def batch(self, first: int, last: int, pool: BufferPool) -> Batch:
        together: Batch = {} if self._layout is None else self._layout.batch(self._together, first, last, pool)
        batch: Batch = {}
        for column in self._columns:
            name = column.name
            if column.together:
                batch[name] = together[name]
            elif column.kind is Kind.FIXED:
                out = batch[name] = pool.empty((last - first, *column.shape), column.dtype)
                self._fixed[name].copy_to(out, first, last)
            elif column.kind is Kind.TEXT:
                batch[name] = self._texts[name].batch(first, last)
            elif column.kind is Kind.OBJECTS:
                batch[name] = self._objects[name].slice(first, last - first).to_pylist() if self._objects else []
            else:
                batch[name], lengths = self._lists[name].batch(first, last, pool)
                if column.reading is not Reading.VALID:  # a mask has the lengths of what it masks
                    batch[f"{name}_lengths"] = lengths
        return batch


def _names(blocks: Sequence[Block]) -> list[str]:
    # A rank's share of the last batch may be empty, and then no block was read.
    return list(blocks[0].arrays) if blocks else []


def _take(blocks: Sequence[Block], names: Sequence[str], slot: Ints, row: Ints) -> dict[str, pa.Array]:
    """Arrow columns, each one array of the wanted rows in order: a take per block, then one to reorder."""
    if not names or not blocks:
        return {}
    order = np.argsort(slot, kind="stable")
    edges = np.searchsorted(slot[order], np.arange(len(blocks) + 1))
    picks = [pa.array(row[order[a:b]]) for a, b in itertools.pairwise(edges.tolist())]
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    place = pa.array(back)
    taken = {}
    for name in names:
        parts = [take_values(block.arrays[name], pick) for block, pick in zip(blocks, picks, strict=True) if len(pick)]
        taken[name] = take_values(pa.concat_arrays(parts or [blocks[0].arrays[name].slice(0, 0)]), place)
    return taken
