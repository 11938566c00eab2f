"""Lanes take turns: how many units each lane has given before a position of the global sequence, in closed form.

What enters: the units of each lane. What leaves: counts per position, and positions per count. Invariant: position
after position takes one unit from each lane in turn, and a lane that has run out is passed over; memory is O(lanes).

Between two lane lengths (*knots*) the same lanes take part in every round, so that the turn-taking is piecewise linear.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]


@final
class Turns:
    """The turn-taking of lanes of known lengths.

    Args:
        lengths: int64[L], units of each lane.
    """

    def __init__(self, lengths: Ints) -> None:
        self._lengths = lengths
        self._plain: list[int] = lengths.tolist()
        self._sorted = np.sort(lengths)
        self._below = np.concatenate([np.zeros(1, np.int64), np.cumsum(self._sorted)])
        self._knots = np.unique(np.concatenate([np.zeros(1, np.int64), lengths]))
        self._filled = self.filled(self._knots)
        self._members = len(lengths) - np.searchsorted(self._sorted, self._knots, side="right")

    def filled(self, rounds: npt.ArrayLike) -> Ints:
        """Units given once so many whole rounds are over."""
        whole = np.asarray(rounds, np.int64)
        ended = np.searchsorted(self._sorted, whole)
        units: Ints = self._below[ended] + (len(self._sorted) - ended) * whole
        return units

    def counts(self, positions: npt.ArrayLike) -> Ints:
        """How many units each lane has given before each position: int64[len(positions), L]; rows sum to the position.

        Args:
            positions: int64[p], each from 0 to the sum of the lengths.
        """
        at = np.asarray(positions, np.int64)
        knot = np.searchsorted(self._filled, at, side="right") - 1
        # The last knot is the end: nobody takes part.
        rounds, rest = np.divmod(at - self._filled[knot], np.maximum(self._members[knot], 1))
        rounds += self._knots[knot]
        given: Ints = np.minimum(self._lengths[None, :], rounds[:, None])
        for each in np.unique(knot).tolist():
            here = knot == each
            given[here] += self._turn(each)[None, :] < rest[here, None]
        return given

    def given(self, position: int) -> list[int]:
        """The counts at one position, by plain arithmetic: several times as fast, and a state is asked for often."""
        knot = bisect_right(self._filled, position) - 1
        rounds, rest = divmod(position - int(self._filled[knot]), max(1, int(self._members[knot])))
        before = int(self._knots[knot])
        given = []
        for length in self._plain:
            given.append(min(length, before + rounds + (rest > 0)))
            rest -= length > before
        return given

    def position(self, lane: int, given: Ints) -> Ints:
        """The position at which a lane gives its unit number `given` (from 0, below its length)."""
        knot = np.searchsorted(self._knots, given, side="right") - 1
        at: Ints = self._filled[knot] + (given - self._knots[knot]) * self._members[knot]
        for each in np.unique(knot).tolist():
            at[knot == each] += self._turn(each)[lane]
        return at

    def _turn(self, knot: int) -> Ints:
        """Each lane's place in the rounds after a knot; beyond any for those that have run out."""
        taking_part = self._lengths > self._knots[knot]
        return np.where(taking_part, np.cumsum(taking_part) - 1, np.iinfo(np.int64).max)
