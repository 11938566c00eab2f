"""The order of rows, graded by length: as the order of rows, but each batch's are of one bucket.

What enters: an order of rows, boundaries, and lengths. What leaves: the same sequence of windows, steps and turns, the
rows of each window in another order. Invariant: a pure function; every row stays in its window.

Each batch is given a *grade* from 0 to 1, by chance but spread evenly over any 64 batches in a row. Within a window of
a lane, the batch of the lowest grade takes the rows of the shortest bucket, and so on up; rows of one bucket stay in
the order of the shuffle. Lanes do so each for itself, wherever their windows begin and end: as grades are spread alike
over all of them, a batch's rows are of one bucket in every lane. So ranks go on reading whole lanes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import numpy as np

from datapipe.loader.bijection import Bijection, derive_key
from datapipe.loader.sequence import EpochSequence, Rows, Sequence, join_units

if TYPE_CHECKING:
    import numpy.typing as npt

    from datapipe.loader.lengths import Lengths
    from datapipe.loader.order import Order

    Ints = npt.NDArray[np.int64]

GRADES: Final = 64
"""Batches over which grades are spread evenly. More would tell lengths finer, but need windows of more batches."""


@final
class GradedOrder(Sequence):
    """The order of every epoch.

    Args:
        order: of the rows. boundaries: int64[k], ascending lengths.
    """

    def __init__(self, order: Order, boundaries: Ints, lengths: Lengths) -> None:
        self.order = order
        self.boundaries = boundaries
        self.lengths = lengths
        self.global_batch, self.tail, self.num_rows = order.global_batch, order.tail, order.num_rows
        self.geometry = order.geometry

    @property
    def lanes(self) -> int:
        """How many lanes there are."""
        return self.order.lanes

    @property
    def steps(self) -> int:
        """Global batches of an epoch."""
        return self.order.steps

    def epoch(self, epoch: int, cursor: Ints | None = None) -> GradedEpoch:
        """The order of one epoch; it needs no cursor."""
        del cursor
        return GradedEpoch(self, epoch)


@final
class GradedEpoch(EpochSequence):
    """The order within one epoch."""

    def __init__(self, order: GradedOrder, epoch: int) -> None:
        self.order: GradedOrder = order
        self._rows = rows = order.order.epoch(epoch)
        self.blocks, self.windows, self.first = rows.blocks, rows.windows, rows.first
        self._key = derive_key("graded-1", order.order.fingerprint, order.order.seed, epoch)
        self._rounds = -(-(order.order.num_rows // order.global_batch + 1) // GRADES)
        none = np.empty(0, np.int64)
        self._held = [(-1, Rows(place=none, row=none))] * order.lanes

    def reach(self, position: int) -> int:
        """All is known from the start."""
        return self._rows.reach(position)

    def counts(self, positions: npt.ArrayLike) -> Ints:
        """As the rows'."""
        return self._rows.counts(positions)

    def units(self, lane: int, start: int, end: int) -> Rows:
        """The rows of a lane at its positions [start, end)."""
        parts, edges = [], self.windows[lane]
        while start < end:
            window = int(np.searchsorted(edges, start, side="right")) - 1
            base, stop = int(edges[window]), min(end, int(edges[window + 1]))
            rows = self._window(lane, window)
            parts.append(Rows(place=rows.place[start - base : stop - base], row=rows.row[start - base : stop - base]))
            start = stop
        return join_units(parts)

    def _window(self, lane: int, window: int) -> Rows:
        held, rows = self._held[lane]
        if held == window:
            return rows
        start, end = self.windows[lane][[window, window + 1]].tolist()
        rows = self._rows.units(lane, start, end)
        own = self.window_blocks(lane, window)
        lengths = self.order.lengths.of_blocks(own)
        sizes = self.order.order.rows[own]
        starts = np.cumsum(sizes) - sizes
        bucket = np.searchsorted(
            self.order.boundaries, lengths[starts[rows.place - self.first[lane][window]] + rows.row]
        )
        batch = self.order.order.turns.position(lane, np.arange(start, end)) // self.order.global_batch
        first, last = int(batch[0]), int(batch[-1])
        grade = self._grades(np.arange(first, last + 1))
        # The place of each row: batches by grade, and within a batch as they come.
        by_grade = np.argsort(grade[batch - first], kind="stable")
        by_length = np.argsort(bucket, kind="stable")
        turned = np.empty(end - start, np.int64)
        turned[by_grade] = by_length
        graded = Rows(place=rows.place[turned], row=rows.row[turned])
        self._held[lane] = window, graded
        return graded

    def _grades(self, batches: Ints) -> Ints:
        """Ranks of batches by grade: int64, without ties. Unshuffled, the batches' own order."""
        if not self.order.order.shuffle:
            return batches
        rounds, place = np.divmod(batches, GRADES)
        strata = np.empty(len(batches), np.int64)
        for each in np.unique(rounds).tolist():
            here = rounds == each
            strata[here] = Bijection(GRADES, derive_key("grades", self._key, each)).forward(place[here])
        # Of one stratum no round comes first every time: a permutation of the rounds tells them apart.
        among = Bijection(self._rounds, derive_key("rounds", self._key)).forward(rounds)
        return strata * self._rounds + among
