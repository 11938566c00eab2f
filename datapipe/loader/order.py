"""The order: (fingerprint, seed, epoch, lanes, window, batch geometry) → the global sequence of batches.

What enters: those names and numbers, and the rows of each block. What leaves: for any stretch of the sequence, which
row of which block stands where. Invariant: a pure function. Ranks, threads, time and memory do not enter it, and it
is computed where it is asked for: memory is O(blocks), whatever the number of rows.

- Blocks that hold rows are cut into L contiguous *lanes* of about equal rows.
- In each epoch each lane's blocks are permuted by a keyed bijection and taken in *windows* of W; the rows of a window
  are permuted by another. A lane of more than W begins with a window of one block, so that the first batch waits for
  few; lane l's second has ⌈W·(l+1)/L⌉, so that the lanes do not all turn over at once.
- *Positions* of the global sequence take one row from each lane in turn; a lane that has run out is passed over.
- Global batch t is the set of rows at positions [t·G, (t+1)·G), written lane by lane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import numpy as np

from datapipe.loader.bijection import Bijection, derive_key
from datapipe.loader.geometry import Geometry, cut_lanes
from datapipe.loader.sequence import EpochSequence, Rows, Sequence, join_units
from datapipe.loader.turns import Turns

if TYPE_CHECKING:
    import numpy.typing as npt

    from datapipe.loader.sequence import Tail

    Ints = npt.NDArray[np.int64]

_PIECE: Final = 1 << 14
"""Rows of a window whose places are computed together and remembered, as the next batches ask for their neighbours."""


@final
class Order(Sequence):
    """The order of every epoch.

    Args:
        fingerprint: names the dataset's content. rows: int64[n], rows of each block (empty ones are passed over).
        global_batch: rows of a global batch, over all ranks.
        tail: what becomes of the rows after the last full batch: see `DataLoader`.

    Attributes:
        num_rows: rows of an epoch. steps: global batches of an epoch.
        lengths: int64[L], rows of each lane.
    """

    def __init__(
        self,
        *,
        fingerprint: str,
        seed: int,
        rows: Ints,
        geometry: Geometry,
        global_batch: int,
        tail: Tail,
        shuffle: bool,
    ) -> None:
        self.fingerprint = fingerprint
        self.seed = seed
        self.geometry = geometry
        self.global_batch = global_batch
        self.tail = tail
        self.shuffle = shuffle
        self.blocks = np.flatnonzero(rows > 0)
        self.rows = rows
        self.num_rows = int(rows.sum())
        full, rest = divmod(self.num_rows, global_batch)
        self._steps = full if tail == "drop" or not rest else full + 1
        if len(self.blocks):
            self.cut = cut_lanes(rows[self.blocks], geometry.lanes)
            self.lengths = np.add.reduceat(rows[self.blocks], self.cut[:-1])
        else:
            self.cut = np.zeros(2, np.int64)
            self.lengths = np.zeros(1, np.int64)
        self.turns = Turns(self.lengths)

    @property
    def lanes(self) -> int:
        """How many lanes there are (one, of no rows, in an empty dataset)."""
        return len(self.lengths)

    @property
    def steps(self) -> int:
        """Global batches of an epoch."""
        return self._steps

    def counts(self, positions: npt.ArrayLike) -> Ints:
        """How many rows each lane has given before each position: int64[len(positions), L]; rows sum to the position.

        Args:
            positions: int64[p], each in [0, num_rows].
        """
        return self.turns.counts(positions)

    def batch_positions(self, batch: int) -> tuple[int, int, int]:
        """Positions [start, end) of a global batch, and how many rows from the epoch's start pad it."""
        start = batch * self.global_batch
        end = min(start + self.global_batch, self.num_rows)
        return start, end, self.global_batch - (end - start) if self.tail == "pad" else 0

    def epoch(self, epoch: int, cursor: Ints | None = None) -> EpochOrder:
        """The order of one epoch; it needs no cursor."""
        del cursor
        return EpochOrder(self, epoch)


@final
class EpochOrder(EpochSequence):
    """The order within one epoch: where each lane's rows lie. Used by one thread at a time (it remembers pieces)."""

    def __init__(self, order: Order, epoch: int) -> None:
        self.order: Order = order
        self.epoch = epoch
        self.blocks: list[Ints] = []
        self.windows: list[Ints] = []
        self.first: list[Ints] = []
        self._starts: list[Ints] = []
        self._held: list[tuple[int, int, int, Ints, Ints]] = []
        for lane in range(order.lanes):
            own = order.blocks[order.cut[lane] : order.cut[lane + 1]]
            if order.shuffle and len(own):
                own = own[Bijection(len(own), self._key("blocks", lane)).forward(np.arange(len(own)))]
            first = self._window_cuts(lane, len(own))
            starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(order.rows[own])])
            self.blocks.append(own)
            self.first.append(first)
            self.windows.append(starts[first])
            self._starts.append(starts)
            self._held.append((-1, 0, 0, np.empty(0, np.int64), np.empty(0, np.int64)))

    def _key(self, *parts: int | str) -> int:
        return derive_key("order-1", self.order.fingerprint, self.order.seed, self.epoch, *parts)

    def _window_cuts(self, lane: int, blocks: int) -> Ints:
        """Where windows begin: one block first, so that the first batch waits for few; then lanes out of step.

        A lane that a window holds is one: a small source of a mix comes again and again, and is read once.
        """
        window = self.order.geometry.window
        head = 1 + -(-window * (lane + 1) // self.order.lanes)
        starts = [0, 1, *range(head, blocks, window)] if blocks > window > 1 else range(0, blocks, window)
        return np.array([*(at for at in starts if at < blocks), blocks] if blocks else [0], np.int64)

    def reach(self, position: int) -> int:
        """All is known from the start."""
        return min(position, self.order.num_rows)

    def counts(self, positions: npt.ArrayLike) -> Ints:
        """The same in every epoch."""
        return self.order.counts(positions)

    def units(self, lane: int, start: int, end: int) -> Rows:
        """The rows of a lane at its positions [start, end)."""
        parts = []
        while start < end:
            window, low, high, block, row = self._piece(lane, start)
            base = int(self.windows[lane][window])
            stop = min(end, base + high)
            part = slice(start - base - low, stop - base - low)
            parts.append(Rows(place=block[part], row=row[part]))
            start = stop
        return join_units(parts)

    def _piece(self, lane: int, position: int) -> tuple[int, int, int, Ints, Ints]:
        """The piece of a window that holds a lane position: (window, its rows [low, high), places, rows)."""
        window, low, high, _, _ = self._held[lane]
        windows = self.windows[lane]
        if window >= 0 and int(windows[window]) + low <= position < int(windows[window]) + high:
            return self._held[lane]
        window = int(np.searchsorted(windows, position, side="right")) - 1
        base, size = int(windows[window]), int(windows[window + 1] - windows[window])
        low = (position - base) // _PIECE * _PIECE
        high = min(low + _PIECE, size)
        place = np.arange(low, high)
        if self.order.shuffle:
            place = Bijection(size, self._key("rows", lane, window)).forward(place)
        first, last = self.first[lane][window], self.first[lane][window + 1]
        starts = self._starts[lane][first : last + 1] - base
        size = int(starts[1])
        if np.array_equal(starts[:-1], np.arange(len(starts) - 1) * size) and starts[-1] <= (len(starts) - 1) * size:
            which = place // size  # blocks of one size, but perhaps the last: a tenth of the search's time
        else:
            which = np.searchsorted(starts[1:], place, side="right")
        held = (window, low, high, first + which, place - starts[which])
        self._held[lane] = held
        return held
