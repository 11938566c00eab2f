"""The schedule of one rank: which rows its batches hold, and which windows must be in memory for them, in read order.

What enters: an epoch's order, (rank, world size), the batch to begin with. What leaves: *stretches*: consecutive
batches that read the same windows, with every row's place, computed from metadata before any payload is read.
Invariant: the ranks' shares of a global batch are disjoint and make it up; the same global batch comes out for every
world size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from datapipe.loader.sequence import Pieces

if TYPE_CHECKING:
    import numpy.typing as npt

    from datapipe.loader.sequence import EpochSequence

    Ints = npt.NDArray[np.int64]

Window = tuple[int, int]
"""(lane, number of the window within the lane)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bins:
    """How the rows of a packed stretch fill its bins.

    Attributes:
        batches: batch i has bins [batches[i], batches[i + 1]).
        cuts: int64[bins + 1]: bin b is filled, from its start, with rows [cuts[b], cuts[b + 1]) of the stretch.
        start, length: int64[n]: which part of each row, in tokens. whole: int64[n]: the tokens the row should have.
    """

    batches: list[int]
    cuts: Ints
    start: Ints
    length: Ints
    whole: Ints


@dataclass(frozen=True, kw_only=True, eq=False)
class Stretch:
    """Consecutive batches of one rank that read the same windows.

    Attributes:
        first: number of its first batch in the epoch.
        cuts: batch i holds rows [cuts[i], cuts[i + 1]) of `slot` and `row`.
        windows: that its rows are in. blocks: int64[b], numbers of their blocks, one window's after the other's.
        slot, row: int64[n]: where each row lies, in delivered order: in block `blocks[slot]`, at `row`.
        real: rows (bins, where rows are packed) per batch that are not padding.
        reads: windows that must be read for it, each with its blocks, in read order.
        drops: windows that no later stretch needs.
        bins: where rows are packed: how; else None.
    """

    first: int
    cuts: list[int]
    windows: list[Window]
    blocks: Ints
    slot: Ints
    row: Ints
    real: list[int]
    reads: list[tuple[Window, Ints]]
    drops: list[Window]
    bins: Bins | None = None

    def __len__(self) -> int:
        return len(self.cuts) - 1

    def rows(self, at: int) -> int:
        """Rows of batch `at` as it is delivered: bins, where rows are packed."""
        cuts = self.cuts if self.bins is None else self.bins.batches
        return cuts[at + 1] - cuts[at]


@final
class Schedule:
    """The stretches of one rank's epoch, from batch `start` on.

    Args:
        max_rows: units of a stretch at most (one batch at least): bounds what is prepared at once. It does not change
            what a batch holds.
    """

    def __init__(
        self, epoch: EpochSequence, *, rank: int, world_size: int, start: int = 0, max_rows: int = 8192
    ) -> None:
        self._epoch = epoch
        self._order = epoch.order
        self._rank = rank
        self._world = world_size
        self._max_rows = max_rows
        self._at = start
        self._resident: dict[Window, int] = {}
        self._page_first = start
        self._page_size = 0
        self._padded = 0

    @property
    def at(self) -> int:
        """The batch that comes next; after the last stretch, the batches of the epoch."""
        return self._at

    def next(self) -> Stretch | None:
        """The next stretch; None after the last."""
        if self._at >= self._page_first + self._page_size and not self._turn_page():
            return None
        low = self._at - self._page_first
        share = max(1, self._order.global_batch // self._world)
        high = min(self._page_size, low + max(1, self._max_rows // share))
        turn = self._turns[np.searchsorted(self._turns, low, side="right") :]
        if len(turn):
            high = min(high, int(turn[0]))
        self._at += high - low
        return self._build(low, high)

    def _turn_page(self) -> bool:
        """Cut the next batches: per batch and lane, the lane positions [starts, ends) that are this rank's."""
        order, size, first = self._order, self._order.global_batch, self._at
        wanted = max(1, order.page // size)
        known = self._epoch.reach((first + wanted) * size)
        full = min(wanted, known // size - first)
        if full <= 0 and (known <= first * size or order.tail == "drop"):
            return False
        if full <= 0 and order.tail == "pad":
            self._cut_padded(first * size, known)
        else:
            edges = np.minimum((first + np.arange(max(full, 1) + 1)) * size, known)
            given = self._epoch.counts(edges)
            self._share(edges[:-1, None], edges[1:, None], given[:-1], given[1:])
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
        return True

    def _cut_padded(self, start: int, end: int) -> None:
        """The last batch, filled up with units from the epoch's start, over again if there are too few."""
        order = self._order
        edges = [start, end]
        padding = self._padded = order.global_batch - (end - start)
        while padding:
            more = min(padding, end)
            edges += [0, more]
            padding -= more
        given = self._epoch.counts(edges)
        at = np.array(edges)
        self._share(at[None, 0::2], at[None, 1::2], given[0::2], given[1::2])
        self._after = given[1:2]

    def _share(self, begin: Ints, end: Ints, given: Ints, given_after: Ints) -> None:
        """Cut this rank's part out of batches made of positions [begin, end), (batches, segments) each.

        It is a contiguous part of the positions, and so of each source's units, which are taken lane by lane.

        Args:
            given, given_after: (batches * segments, lanes): what the lanes have given before and after.
        """
        size = end - begin
        before = np.cumsum(size, axis=1) - size
        units = size.sum(axis=1, keepdims=True)
        low, high = units * self._rank // self._world, units * (self._rank + 1) // self._world
        if self._parts > 1:
            low = np.minimum(self._rank // self._parts, units)
            high = np.minimum(low + 1, units)
        self._from, self._to = begin + np.clip(low - before, 0, size), begin + np.clip(high - before, 0, size)
        cuts = self._order.source_cuts
        lanes = np.diff(cuts)
        from_start = self._epoch.shares(begin.ravel())
        low, high = (
            np.repeat(self._epoch.shares(at.ravel()) - from_start, lanes, axis=1) for at in (self._from, self._to)
        )
        size = given_after - given
        before = np.cumsum(size, axis=1) - size
        before -= np.repeat(before[:, cuts[:-1]], lanes, axis=1)
        self._starts = (given + np.clip(low - before, 0, size)).reshape(len(begin), -1)
        self._ends = (given + np.clip(high - before, 0, size)).reshape(len(begin), -1)
        self._lane = np.tile(np.arange(self._order.lanes), begin.shape[1])

    @property
    def _parts(self) -> int:
        """Ranks that share a unit's rows."""
        return max(1, self._world // self._order.global_batch) if self._order.divisible else 1

    def _build(self, low: int, high: int) -> Stretch:
        starts, ends = self._starts[low:high], self._ends[low:high]
        size = ends - starts
        numbers, slots, rows, windows, made_of = [], [], [], [], []
        shift = np.zeros(len(self._lane), np.int64)
        held = slots_held = 0
        for column, lane in enumerate(self._lane.tolist()):
            used = np.flatnonzero(size[:, column])
            if not len(used):
                continue
            begin, end = int(starts[used[0], column]), int(ends[used[-1], column])
            units = self._epoch.units(lane, begin, end)
            if isinstance(units, Pieces):
                made_of.append(units)
            edges = self._epoch.windows[lane]
            one, last = (int(w) - 1 for w in np.searchsorted(edges, [begin, end - 1], side="right"))
            windows += [(lane, window, int(edges[window + 1])) for window in range(one, last + 1)]
            first_block, last_block = self._epoch.first[lane][[one, last + 1]].tolist()
            numbers.append(self._epoch.blocks[lane][first_block:last_block])
            slots.append(units.place + (slots_held - first_block))
            rows.append(units.row)
            slots_held += last_block - first_block
            shift[column] = held - begin
            held += end - begin
        flat = size.ravel()
        total = int(flat.sum())
        # Unit i of segment s stands at lane position starts[s] + i, which the tables above hold at that + shift.
        at = np.repeat((starts + shift).ravel() - (np.cumsum(flat) - flat), flat)
        at += np.arange(total)
        if len(self._order.source_cuts) > 2:
            at = self._in_turn(at, low, high)
        cuts = np.concatenate([np.zeros(1, np.int64), np.cumsum(size.sum(axis=1))])
        first = self._page_first + low
        real = self._real_units(size)
        bins = None
        if made_of or self._order.packs or self._order.divisible:
            at, filled = self._expand(made_of, at)
            real_cuts = cuts[:-1] + real
            real = (filled[real_cuts] - filled[cuts[:-1]]) if not self._order.packs else real
            if self._order.packs:
                start, length, whole = (
                    _joined([getattr(each, name) for each in made_of])[at] for name in ("start", "length", "whole")
                )
                bins = Bins(batches=cuts.tolist(), cuts=filled, start=start, length=length, whole=whole)
            cuts = filled[cuts]
        return Stretch(
            first=first,
            cuts=cuts.tolist(),
            windows=[(lane, window) for lane, window, _ in windows],
            blocks=_joined(numbers),
            slot=_joined(slots)[at],
            row=_joined(rows)[at],
            real=real.tolist(),
            reads=self._admit(windows),
            drops=self._retire(self._after[high - 1], last=not self._epoch.has(self._at)),
            bins=bins,
        )

    def _in_turn(self, units: Ints, low: int, high: int) -> Ints:
        """Units that are listed source by source, per batch, in the order of their positions."""
        begin, size = self._from[low:high].ravel(), (self._to - self._from)[low:high].ravel()
        sources = len(self._order.source_cuts) - 1
        positions = np.repeat(begin - (np.cumsum(size) - size), size) + np.arange(len(units))
        listed = np.repeat(np.arange(len(size)) * sources, size) + self._epoch.source_of(positions)
        if len(size) * sources < 1 << 16:
            listed = listed.astype(np.uint16)  # sorted in linear time
        turned = np.empty_like(units)
        turned[np.argsort(listed, kind="stable")] = units
        return turned

    def _expand(self, made_of: list[Pieces], units: Ints) -> tuple[Ints, Ints]:
        """Where the pieces of these units stand, and the pieces before each unit and after the last."""
        count, first = [], []
        held = 0
        for pieces in made_of:
            count.append(np.diff(pieces.cuts))
            first.append(pieces.cuts[:-1] + held)
            held += len(pieces.row)
        size, begin = _joined(count)[units], _joined(first)[units]
        if self._parts > 1:
            part = self._rank % self._parts
            low = size * part // self._parts
            begin, size = begin + low, size * (part + 1) // self._parts - low
        cuts = np.concatenate([np.zeros(1, np.int64), np.cumsum(size)])
        return np.repeat(begin - cuts[:-1], size) + np.arange(cuts[-1]), cuts

    def _real_units(self, size: Ints) -> Ints:
        units: Ints = size.sum(axis=1)
        if self._padded:  # the last batch, alone on its page
            total = self._order.global_batch
            low, high = total * self._rank // self._world, total * (self._rank + 1) // self._world
            if self._parts > 1:
                low = self._rank // self._parts
                high = low + 1
            units[-1] = min(max(total - self._padded - low, 0), high - low)
        return units

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


def _joined(parts: list[Ints]) -> Ints:
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int64), *parts])
