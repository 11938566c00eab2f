"""The order of units: bins of packed documents, or batches of near lengths, planned window by window.

What enters: the names and numbers of an order, a shape, and the lengths of rows. What leaves: a sequence like that of
rows, of units. Invariant: a pure function; each row is in the units of exactly one window.

- Lanes are cut as for rows. A lane's blocks are permuted once (by the seed) and cut into *windows* of W/2 to W blocks,
  by chance, so that lanes do not all turn over at once. Windows hold the same blocks in every epoch: then each gives as
  many units in every epoch, as a shape's number of units depends on the multiset of lengths alone, and the epoch's
  steps are the same, whoever counts them and when.
- In each epoch the windows of a lane are permuted, the rows of a window before they are shaped (rows of equal length
  take each other's places), and its units after it.
- Windows are counted as they are reached: an epoch begins when the first window of each lane is known. `steps` counts
  all. A *cursor* (each lane's window and the units before it) begins within an epoch without what comes before.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, final

import numpy as np

from datapipe.errors import LoaderError
from datapipe.loader.bijection import Bijection, derive_key
from datapipe.loader.geometry import Geometry, cut_lanes
from datapipe.loader.lengths import READ_THREADS
from datapipe.loader.sequence import EpochSequence, Pieces, Sequence, join_units
from datapipe.loader.turns import Turns
from datapipe.locks import new_lock

if TYPE_CHECKING:
    import numpy.typing as npt

    from datapipe.loader.lengths import Lengths
    from datapipe.loader.sequence import Tail
    from datapipe.loader.shape import Shape

    Ints = npt.NDArray[np.int64]

_UNKNOWN: Final = 1 << 62
"""Where a window ends that was not counted yet: past every position reached."""


@final
class UnitOrder(Sequence):
    """The order of every epoch, in units.

    Args:
        rows: int64[n], rows of each block. global_batch: units of a global batch, over all ranks.
        lengths: of rows. shape: makes units of them.
    """

    page = 1 << 12
    steady = False

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
        shape: Shape,
        lengths: Lengths,
    ) -> None:
        self.fingerprint = fingerprint
        self.seed = seed
        self.rows = rows
        self.geometry = geometry
        self.global_batch = global_batch
        self.tail = tail
        self.shuffle = shuffle
        self.shape = shape
        self.lengths = lengths
        self.packs, self.divisible = shape.packs, shape.divisible
        self.num_rows = int(rows.sum())
        held = np.flatnonzero(rows > 0)
        cut = cut_lanes(rows[held], geometry.lanes) if len(held) else np.zeros(2, np.int64)
        self.blocks = [self._permuted(held[cut[i] : cut[i + 1]], "blocks", i) for i in range(len(cut) - 1)]
        self.groups = [self._cut_groups(lane, len(own)) for lane, own in enumerate(self.blocks)]
        self._counts = [np.full(len(groups) - 1, -1, np.int64) for groups in self.groups]

    def key(self, *parts: int | str) -> int:
        """A key of this order's."""
        return derive_key("units-1", self.fingerprint, self.seed, *parts)

    def _permuted(self, own: Ints, *parts: int | str) -> Ints:
        if not self.shuffle or not len(own):
            return own
        return own[Bijection(len(own), self.key(*parts)).forward(np.arange(len(own)))]

    def _cut_groups(self, lane: int, blocks: int) -> Ints:
        """Where a lane's blocks are cut into windows: int64[w + 1]."""
        most = self.geometry.window
        least = -(-most // 2) if self.shuffle else most
        number = -(-blocks // least)
        if not number:
            return np.zeros(1, np.int64)
        chance = Bijection(max(number, 1 << 16), self.key("window", lane)).forward(np.arange(number))
        ends = np.cumsum(least + chance % (most - least + 1))
        return np.concatenate([np.zeros(1, np.int64), ends[ends < blocks], np.full(1, blocks)])

    @property
    def lanes(self) -> int:
        """How many lanes there are."""
        return len(self.blocks)

    def group(self, lane: int, group: int) -> Ints:
        """The blocks of one window, in the order of the lane."""
        return self.blocks[lane][self.groups[lane][group] : self.groups[lane][group + 1]]

    def count(self, lane: int, group: int, *, threads: int = READ_THREADS) -> int:
        """Units of a window. Reads its lengths, once."""
        known = int(self._counts[lane][group])
        if known < 0:
            known = self.shape.count(self.lengths.of_blocks(self.group(lane, group), threads=threads))
            self._counts[lane][group] = known
        return known

    @property
    def units(self) -> int:
        """Units of an epoch. Reads the lengths of all rows, the first time."""
        missing = [(lane, int(g)) for lane, counts in enumerate(self._counts) for g in np.flatnonzero(counts < 0)]
        if len(missing) > 1:
            with ThreadPoolExecutor(min(READ_THREADS, len(missing))) as pool:
                list(pool.map(lambda window: self.count(*window, threads=1), missing))
        return sum(self.count(lane, group) for lane, counts in enumerate(self._counts) for group in range(len(counts)))

    @property
    def steps(self) -> int:
        """Global batches of an epoch: the same in all. Reads the lengths of all rows, the first time."""
        full, rest = divmod(self.units, self.global_batch)
        return full if self.tail == "drop" or not rest else full + 1

    def epoch(self, epoch: int, cursor: Ints | None = None) -> UnitEpoch:
        """The order of one epoch."""
        return UnitEpoch(self, epoch, cursor)


@final
class UnitEpoch(EpochSequence):
    """The order of units within one epoch."""

    def __init__(self, order: UnitOrder, epoch: int, cursor: Ints | None) -> None:
        self.order: UnitOrder = order
        self.epoch = epoch
        self.blocks: list[Ints] = []
        self.windows: list[Ints] = []
        self.first: list[Ints] = []
        self._lock = new_lock()
        self._groups: list[Ints] = []
        self._known: list[int] = []
        self._begin: list[int] = []
        self._held: list[tuple[int, Pieces | None]] = []
        for lane in range(order.lanes):
            cuts = order.groups[lane]
            groups = np.arange(len(cuts) - 1)
            if order.shuffle and len(groups):
                groups = Bijection(len(groups), order.key(epoch, "windows", lane)).forward(groups)
            sizes = np.diff(cuts)[groups]
            first = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
            self._groups.append(groups)
            self.first.append(first)
            self.blocks.append(order.blocks[lane][np.repeat(cuts[groups] - first[:-1], sizes) + np.arange(first[-1])])
            window, units = (0, 0) if cursor is None else cursor[lane].tolist()
            ends = np.full(len(groups) + 1, _UNKNOWN, np.int64)
            ends[0], ends[1 : window + 1] = 0, units
            self.windows.append(ends)
            self._known.append(window)
            self._begin.append(window)
            self._held.append((-1, None))
        self._turn()

    def _turn(self) -> None:
        known = [int(ends[window]) for ends, window in zip(self.windows, self._known, strict=True)]
        self._turns = Turns(np.array(known, np.int64))
        going = [units for lane, units in enumerate(known) if self._known[lane] < len(self._groups[lane])]
        # While some lane goes on, nothing is known beyond the rounds that the shortest such lane was counted for.
        self._reached = int(self._turns.filled(min(going))) if going else sum(known)
        self._over = not going
        if self._over and self.order.tail == "drop" and 0 < self._reached < self.order.global_batch:
            warnings.warn(
                f"an epoch has {self._reached} {'bins' if self.order.packs else 'batches'}, fewer than one step of"
                f" {self.order.global_batch}: there will be no batch. Use a smaller batch_size, fewer ranks, or"
                f' tail="pad" or "partial".',
                stacklevel=2,
            )

    def reach(self, position: int) -> int:
        """Count windows as far as it takes."""
        while self._reached < position and not self._over:
            self._advance()
        return min(position, self._reached)

    def _advance(self) -> None:
        """Count the next window of the lane that is known least far."""
        with self._lock:
            going = [lane for lane, groups in enumerate(self._groups) if self._known[lane] < len(groups)]
            if not going:
                if not self._over:  # forked between a last window and what is told from it
                    self._turn()
                return
            lane = min(going, key=lambda lane: int(self.windows[lane][self._known[lane]]))
            at = self._known[lane]
            self.windows[lane][at + 1] = self.windows[lane][at] + self.order.count(lane, int(self._groups[lane][at]))
            self._known[lane] = at + 1
            self._turn()

    def counts(self, positions: npt.ArrayLike) -> Ints:
        """How many units each lane has given before each position."""
        given = self._turns.counts(positions)
        for lane, begin in enumerate(self._begin):
            known_from = int(self.windows[lane][begin])
            asked = given[:, lane]
            early = asked < known_from
            if begin and early.any():  # padding, after a cursor: the epoch's start is asked for
                across = (early[:-1] & ~early[1:]).any()  # from there to beyond the cursor
                self._count_from_start(lane, known_from if across else int(asked[early].max()) + 1)
        return given

    def _count_from_start(self, lane: int, units: int) -> None:
        ends = self.windows[lane]
        total = 0
        for at in range(self._begin[lane]):
            total += self.order.count(lane, int(self._groups[lane][at]))
            ends[at + 1] = total
            if total >= units:
                break

    def cursor(self, position: int) -> Ints | None:
        """Each lane's window at a position that was reached."""
        at = []
        for lane, units in enumerate(self._turns.given(position)):
            ends, begin = self.windows[lane], self._begin[lane]
            window = begin + int(ends[begin:].searchsorted(units))
            window -= int(ends[window]) > units
            at.append((window, int(ends[window])))
        return np.array(at, np.int64).reshape(-1, 2)

    def units(self, lane: int, start: int, end: int) -> Pieces:
        """What a lane's units [start, end) are made of."""
        parts, edges = [], self.windows[lane]
        while start < end:
            window = int(np.searchsorted(edges, start, side="right")) - 1
            base, stop = int(edges[window]), min(end, int(edges[window + 1]))
            parts.append(_part(self._plan(lane, window), start - base, stop - base))
            start = stop
        return join_units(parts)

    def _plan(self, lane: int, window: int) -> Pieces:
        held, pieces = self._held[lane]
        if held != window or pieces is None:
            pieces = self._arrange(lane, window, int(self._groups[lane][window]))
            self._held[lane] = window, pieces
        return pieces

    def _arrange(self, lane: int, window: int, group: int) -> Pieces:
        order = self.order
        own = self.window_blocks(lane, window)
        lengths = order.lengths.of_blocks(own)
        rows = order.rows[own]
        starts = np.cumsum(rows) - rows
        if len(lengths) != int(rows.sum()):
            raise _changed(order, f"{len(lengths)} lengths", f"{int(rows.sum())}")
        row = np.arange(len(lengths))
        if order.shuffle and len(row):
            row = Bijection(len(row), order.key(self.epoch, "rows", lane, group)).forward(row)
        units = order.shape.units(lengths[row])
        if len(units) != order.count(lane, group):
            raise _changed(order, f"{len(units)} units", f"the {order.count(lane, group)} counted before")
        row = row[units.item]
        block = np.searchsorted(starts, row, side="right") - 1
        pieces = Pieces(
            cuts=units.cuts,
            place=self.first[lane][window] + block,
            row=row - starts[block],
            start=units.start,
            length=units.length,
            whole=lengths[row],
        )
        if not order.shuffle or not len(units):
            return pieces
        return _taken(pieces, Bijection(len(units), order.key(self.epoch, "units", lane, group)))


def _changed(order: UnitOrder, got: str, expected: str) -> LoaderError:
    return LoaderError(
        f"column {order.lengths.source!r} gives {got} in a window",
        expected=expected,
        fix="the files were changed while they were read: open the dataset again, or run `datapipe verify`",
    )


def _part(pieces: Pieces, start: int, end: int) -> Pieces:
    low, high = pieces.cuts[[start, end]].tolist()
    return Pieces(
        cuts=pieces.cuts[start : end + 1] - low,
        place=pieces.place[low:high],
        row=pieces.row[low:high],
        start=pieces.start[low:high],
        length=pieces.length[low:high],
        whole=pieces.whole[low:high],
    )


def _taken(pieces: Pieces, order: Bijection) -> Pieces:
    """The units in another order."""
    units = order.forward(np.arange(order.n))
    size = np.diff(pieces.cuts)[units]
    cuts = np.concatenate([np.zeros(1, np.int64), np.cumsum(size)])
    at = np.repeat(pieces.cuts[units] - cuts[:-1], size) + np.arange(cuts[-1])
    return Pieces(
        cuts=cuts,
        place=pieces.place[at],
        row=pieces.row[at],
        start=pieces.start[at],
        length=pieces.length[at],
        whole=pieces.whole[at],
    )
