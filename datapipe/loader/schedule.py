"""The schedule of one rank: which rows its batches hold, and which windows must be in memory for them, in read order.

What enters: an epoch's order, (rank, world size), the batch to begin with. What leaves: *stretches*: consecutive
batches that read the same windows, with every row's place, computed from metadata before any payload is read.
Invariant: the ranks' shares of a global batch are disjoint and make it up; the same global batch comes out for every
world size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from datapipe.loader.order import EpochOrder

    Ints = npt.NDArray[np.int64]

Window = tuple[int, int]
"""(lane, number of the window within the lane)."""
_PAGE_ROWS: Final = 1 << 16
"""Rows whose batches are cut together: the arithmetic over batches by lanes is vectorised over a page."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stretch:
    """Consecutive batches of one rank that read the same windows.

    Attributes:
        first: number of its first batch in the epoch.
        cuts: batch i holds rows [cuts[i], cuts[i + 1]) of `slot` and `row`.
        blocks: int64[b], numbers of the blocks that are read.
        slot, row: int64[n]: where each row lies, in delivered order: in block `blocks[slot]`, at `row`.
        real: rows per batch that are not padding.
        reads: windows that must be read for it, each with its blocks, in read order.
        drops: windows that no later stretch needs.
    """

    first: int
    cuts: list[int]
    blocks: Ints
    slot: Ints
    row: Ints
    real: list[int]
    reads: list[tuple[Window, Ints]]
    drops: list[Window]

    def __len__(self) -> int:
        return len(self.cuts) - 1


@final
class Schedule:
    """The stretches of one rank's epoch, from batch `start` on.

    Args:
        max_rows: rows of a stretch at most (one batch at least): bounds what is prepared at once. It does not change
            what a batch holds.
    """

    def __init__(self, epoch: EpochOrder, *, rank: int, world_size: int, start: int = 0, max_rows: int = 8192) -> None:
        self._epoch = epoch
        self._order = epoch.order
        self._rank = rank
        self._world = world_size
        self._max_rows = max_rows
        self._at = start
        self._resident: dict[Window, int] = {}
        self._page_first = start
        self._page_size = 0

    def next(self) -> Stretch | None:
        """The next stretch; None after the last."""
        order = self._order
        if self._at >= order.steps:
            return None
        if self._at >= self._page_first + self._page_size:
            self._turn_page()
        low = self._at - self._page_first
        share = max(1, order.global_batch // self._world)
        high = min(self._page_size, low + max(1, self._max_rows // share))
        turn = self._turns[np.searchsorted(self._turns, low, side="right") :]
        if len(turn):
            high = min(high, int(turn[0]))
        stretch = self._build(low, high)
        self._at += high - low
        return stretch

    def _turn_page(self) -> None:
        """Cut the next batches: per batch and lane, the lane positions [starts, ends) that are this rank's."""
        order = self._order
        first = self._at
        _, _, padding = order.batch_positions(order.steps - 1)
        plain = order.steps - 1 if padding else order.steps
        if first == plain:
            self._cut_padded(first)
        else:
            count = max(1, min(_PAGE_ROWS // order.global_batch, plain - first))
            edges = np.minimum((first + np.arange(count + 1)) * order.global_batch, order.num_rows)
            given = order.counts(edges)
            self._share(given[:-1], given[1:])
            self._lane = np.arange(order.lanes)
            self._after = given[1:]
        self._page_first = first
        self._page_size = len(self._starts)
        # A stretch ends where some lane needs a window it has not needed so far.
        last = np.full(self._starts.shape, -1, np.int64)
        for column, lane in enumerate(self._lane.tolist()):
            window = np.searchsorted(self._epoch.windows[lane], self._ends[:, column] - 1, side="right") - 1
            last[:, column] = np.where(self._ends[:, column] > self._starts[:, column], window, -1)
        last = np.maximum.accumulate(last, axis=0)
        self._turns = np.flatnonzero((last[1:] != last[:-1]).any(axis=1)) + 1

    def _cut_padded(self, batch: int) -> None:
        """The last batch, filled up with rows from the epoch's start, over again if there are too few."""
        order = self._order
        start, end, padding = order.batch_positions(batch)
        edges = [start, end]
        while padding:
            more = min(padding, order.num_rows)
            edges += [0, more]
            padding -= more
        given = order.counts(edges)
        self._share(given[0::2].reshape(1, -1), given[1::2].reshape(1, -1))
        self._lane = np.tile(np.arange(order.lanes), len(edges) // 2)
        self._after = given[1:2]

    def _share(self, starts: Ints, ends: Ints) -> None:
        """Cut this rank's contiguous part out of batches of segments [starts, ends), (batches, segments) each."""
        size = ends - starts
        before = np.cumsum(size, axis=1) - size
        rows = size.sum(axis=1, keepdims=True)
        low = np.clip(rows * self._rank // self._world - before, 0, size)
        high = np.clip(rows * (self._rank + 1) // self._world - before, 0, size)
        self._starts, self._ends = starts + low, starts + high

    def _build(self, low: int, high: int) -> Stretch:
        starts, ends = self._starts[low:high], self._ends[low:high]
        size = ends - starts
        numbers, slots, rows, windows = [], [], [], []
        shift = np.zeros(len(self._lane), np.int64)
        held = slots_held = 0
        for column, lane in enumerate(self._lane.tolist()):
            used = np.flatnonzero(size[:, column])
            if not len(used):
                continue
            begin, end = int(starts[used[0], column]), int(ends[used[-1], column])
            place, row = self._epoch.rows(lane, begin, end)
            edges = self._epoch.windows[lane]
            one, last = (int(w) - 1 for w in np.searchsorted(edges, [begin, end - 1], side="right"))
            windows += [(lane, window, int(edges[window + 1])) for window in range(one, last + 1)]
            first_block, last_block = self._epoch.first[lane][[one, last + 1]].tolist()
            numbers.append(self._epoch.blocks[lane][first_block:last_block])
            slots.append(place + (slots_held - first_block))
            rows.append(row)
            slots_held += last_block - first_block
            shift[column] = held - begin
            held += end - begin
        flat = size.ravel()
        total = int(flat.sum())
        # Row i of segment s stands at lane position starts[s] + i, which the tables above hold at that + shift.
        at = np.repeat((starts + shift).ravel() - (np.cumsum(flat) - flat), flat)
        at += np.arange(total)
        none = np.empty(0, np.int64)
        first = self._page_first + low
        return Stretch(
            first=first,
            cuts=[0, *np.cumsum(size.sum(axis=1)).tolist()],
            blocks=np.concatenate([none, *numbers]),
            slot=np.concatenate([none, *slots])[at],
            row=np.concatenate([none, *rows])[at],
            real=self._real_rows(first, size),
            reads=self._admit(windows),
            drops=self._retire(self._after[high - 1], last=first + high - low >= self._order.steps),
        )

    def _real_rows(self, first: int, size: Ints) -> list[int]:
        rows: list[int] = size.sum(axis=1).tolist()
        start, end, padding = self._order.batch_positions(first + len(rows) - 1)
        if padding:
            real, total = end - start, end - start + padding
            low, high = total * self._rank // self._world, total * (self._rank + 1) // self._world
            rows[-1] = min(max(real - low, 0), high - low)
        return rows

    def _admit(self, windows: list[tuple[int, int, int]]) -> list[tuple[Window, Ints]]:
        reads = []
        for lane, window, end in windows:
            if (lane, window) not in self._resident:
                self._resident[lane, window] = end
                reads.append(((lane, window), self._epoch.window_blocks(lane, window)))
        return reads

    def _retire(self, passed: Ints, *, last: bool) -> list[Window]:
        """Windows whose lane has gone past them; after the last batch, all."""
        drops = [key for key, end in self._resident.items() if last or int(passed[key[0]]) >= end]
        for key in drops:
            del self._resident[key]
        return drops
