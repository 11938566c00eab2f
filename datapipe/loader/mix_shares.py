"""Whose turn it is in a mix: which source each position of the global sequence is of, exactly in proportion.

What enters: the weights of the sources, phase by phase, and positions. What leaves: how many units each source has
given before a position, and which source a position is of. Invariant: a pure function, computed where it is asked
for; counts sum to the position; while weights stay, every count is within `bound` of its ideal share everywhere.

The sources are the leaves of a binary tree of the least height. Each node hands its units to its two children as
Bresenham's line does (IBM Systems Journal 4(1), 1965): of the first m units the left one gets
⌊(r + a·m) / s⌋, within half a unit of the ideal a/s where r = s/2. A child of a node that is off by e is off by
1/2 + e at most, thus a source of K by half of ⌈log2 K⌉. Where a phase ends r is carried on: no node loses anything,
and two sources stay within half a unit. (Of more, a child whose share of its node moves by v in all, over the phases,
inherits e·(1 + v) at most, by summation by parts.) This pattern is regular; shuffled, blocks of 8 · 2^⌈log2 K⌉
positions are each permuted by a key. Then within a block a source of share w can be ahead or behind by that times
w (1 - w) more, and at its end no more.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final, final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

ONE: Final = 1 << 30
"""Shares in more than one phase, and those of no small common denominator, are multiples of 1 / ONE of their node's."""
_SLOTS: Final = 8
"""Of each source of equal weight in a permuted block: as many orders of them as chance is worth, little imbalance."""
_SPREAD: Final = 4
"""Times as many positions as are asked for are computed, where that saves to look for their blocks."""
_FAR: Final = 1 << 50
"""Positions looked at: a thousand years of a million rows a second would be 2^65, a run is less."""


@final
class Shares:
    """The turns of K sources.

    Args:
        starts: the position that each phase begins at, ascending from 0.
        weights: per phase, one per source, none negative, some positive.
        key: of the permutations; None: none.

    Attributes:
        sources: K. block: positions that are permuted among themselves (1: none).
    """

    def __init__(self, starts: Sequence[int], weights: Sequence[Sequence[Fraction]], key: int | None) -> None:
        self.sources = len(weights[0])
        height = (self.sources - 1).bit_length()
        self.block = _SLOTS << height if key is not None and height else 1
        self._key = np.uint64(key or 0)
        self._starts = list(starts)
        self._weights = weights
        self._nodes: list[tuple[int, int, int]] = []
        self._left: list[int] = []
        self._right: list[int] = []
        if self.sources > 1:
            self._grow(0, self.sources)
        self._height = height
        # Per phase known so far: where it begins, what each source gave before, and each node's a, s and r.
        shape = (0, len(self._nodes))
        self._begin = np.empty(0, np.int64)
        self._given = np.empty((0, self.sources), np.int64)
        self._a, self._s, self._r = (np.empty(shape, np.int64) for _ in range(3))
        self._know(0)

    def bound(self, share: float) -> float:
        """How far the count of a source can be from its ideal share, in units."""
        return self._height / 2 + (self.block * share * (1 - share) if self.block > 1 else 0)

    def _grow(self, low: int, high: int) -> int:
        """The node over sources [low, high); a source itself is -1 - source."""
        if high - low == 1:
            return -1 - low
        node, middle = len(self._nodes), (low + high) // 2
        self._nodes.append((low, middle, high))
        self._left.append(0)
        self._right.append(0)
        self._left[node] = self._grow(low, middle)
        self._right[node] = self._grow(middle, high)
        return node

    def _know(self, position: int) -> None:
        """Enter into the tables all phases up to a position."""
        while len(self._begin) < len(self._starts) and self._starts[len(self._begin)] <= position:
            at = len(self._begin)
            begin = self._starts[at]
            exact = len(self._starts) == 1
            split = [_split(self._weights[at], node, exact=exact) for node in self._nodes]
            a, s = (np.array([each[i] for each in split], np.int64) for i in range(2))
            if at:
                given, r = self._end(at - 1, begin)
            else:
                given, r = np.zeros(self.sources, np.int64), s // 2
            self._given = np.concatenate([self._given, given[None]])
            self._a, self._s, self._r = (
                np.concatenate([old, new[None]]) for old, new in ((self._a, a), (self._s, s), (self._r, r))
            )
            self._begin = np.append(self._begin, begin)

    def _end(self, phase: int, position: int) -> tuple[Ints, Ints]:
        """What the sources have given, and each node's rest, where a phase ends."""
        units = {0: position - int(self._begin[phase])}
        given = self._given[phase].copy()
        rest = self._r[phase].copy()
        if not self._nodes:
            given += units[0]
        for node in range(len(self._nodes)):
            a, s, r = (int(table[phase, node]) for table in (self._a, self._s, self._r))
            total = r + a * units[node]
            rest[node] = total % s
            for child, share in ((self._left[node], total // s), (self._right[node], units[node] - total // s)):
                if child < 0:
                    given[-1 - child] += share
                else:
                    units[child] = share
        return given, rest

    def _phase(self, at: Ints) -> Ints:
        if len(self._starts) > len(self._begin) and at.size:
            self._know(int(at.max()))
        phase: Ints = np.searchsorted(self._begin, at, side="right") - 1
        return phase

    def _regular(self, at: Ints) -> Ints:
        """Counts before each position of the regular pattern: int64[p, K]."""
        phase = self._phase(at)
        given: Ints = self._given[phase]
        units = {0: at - self._begin[phase]}
        if not self._nodes:
            given += units[0][:, None]
        for node in range(len(self._nodes)):
            own = units.pop(node)
            left = _handed(own, self._a[phase, node], self._s[phase, node], self._r[phase, node])
            for child, share in ((self._left[node], left), (self._right[node], own - left)):
                if child < 0:
                    given[:, -1 - child] += share
                else:
                    units[child] = share
        return given

    def _pattern(self, begin: int, end: int) -> Ints:
        """The source of each position [begin, end) of the regular pattern."""
        self._phase(np.array([end]))
        cuts = [begin, *(cut for cut in self._begin.tolist() if begin < cut < end), end]
        parts = []
        for low, high in itertools.pairwise(cuts):
            phase = int(np.searchsorted(self._begin, low, side="right")) - 1
            out = np.empty(high - low, np.int64)
            self._fill(out, phase, 0 if self._nodes else -1, low - int(self._begin[phase]))
            parts.append(out)
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int64), *parts])

    def _fill(self, out: Ints, phase: int, node: int, first: int) -> None:
        """The sources of a node's units from `first` on."""
        if node < 0 or not len(out):
            out[:] = -1 - node
            return
        a, s, r = (int(table[phase, node]) for table in (self._a, self._s, self._r))
        whole, rest = divmod(first, s)
        handed = (np.arange(len(out) + 1) * a + (r + a * rest)) // s  # contiguous: no overflow, one division
        left = handed[1:] > handed[:-1]
        before = whole * a + int(handed[0])
        if self._left[node] < 0 and self._right[node] < 0:
            out[:] = np.where(left, -1 - self._left[node], -1 - self._right[node])
            return
        for child, mine, start in ((self._left[node], left, before), (self._right[node], ~left, first - before)):
            part = np.empty(int(np.count_nonzero(mine)), np.int64)
            self._fill(part, phase, child, start)
            out[mine] = part

    def of(self, positions: Ints) -> Ints:
        """The source of each position: int64[n]; quick where they are close to each other."""
        if not len(positions):
            return np.empty(0, np.int64)
        low, high = int(positions.min()) // self.block, int(positions.max()) // self.block + 1
        if (high - low) * self.block > _SPREAD * len(positions) + self.block:
            blocks, row = np.unique(positions // self.block, return_inverse=True)
            found: Ints = self._permuted(blocks)[row, positions % self.block]
            return found
        return self._arranged(low, high).ravel()[positions - low * self.block]

    def _permuted(self, blocks: Ints) -> Ints:
        """The sources of whole blocks, ascending: int64[b, block]."""
        runs = np.flatnonzero(np.diff(blocks, prepend=-2) != 1)
        ends = np.append(runs[1:], len(blocks))
        parts = [
            self._arranged(int(blocks[low]), int(blocks[high - 1]) + 1)
            for low, high in zip(runs.tolist(), ends.tolist(), strict=True)
        ]
        return np.concatenate([np.empty((0, self.block), np.int64), *parts])

    def _arranged(self, low: int, high: int) -> Ints:
        """The sources of blocks [low, high)."""
        begin, end = low * self.block, high * self.block
        regular = self._pattern(begin, end)
        if self.block == 1:
            return regular[:, None]
        # By the order of random numbers, whose lowest bits are the source: sorting them is all.
        bits = np.uint64(self._height)
        keys = _hashed(np.arange(begin, end, dtype=np.uint64), self._key) >> bits << bits | regular.astype(np.uint64)
        keys = np.sort(keys.reshape(-1, self.block), axis=1)
        return (keys & np.uint64((1 << self._height) - 1)).astype(np.int64)

    def counts(self, positions: npt.ArrayLike) -> Ints:
        """How many units each source has given before each position: int64[p, K]; rows sum to the position."""
        at = np.asarray(positions, np.int64)
        if self.block == 1:
            return self._regular(at)
        which, within = np.divmod(at, self.block)
        given = self._regular(which * self.block)
        inside = np.flatnonzero(within)
        if len(inside):
            blocks, row = np.unique(which[inside], return_inverse=True)
            counted = np.arange(self.block) < within[inside][:, None]
            place = np.arange(len(inside))[:, None] * self.sources + self._permuted(blocks)[row]
            given[inside] += np.bincount(place[counted], minlength=len(inside) * self.sources).reshape(len(inside), -1)
        return given

    def reaches(self, source: int, units: int) -> int | None:
        """The least position before which a source has given so many units; None: it never does."""
        low, high = 0, 1
        while self.counts([high])[0, source] < units:
            if high > self._starts[-1] and not self._weights[-1][source]:
                return None
            low, high = high, high * 2
            if high > _FAR:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            if self.counts([middle])[0, source] < units:
                low = middle
            else:
                high = middle
        return high


def _split(weights: Sequence[Fraction], node: tuple[int, int, int], *, exact: bool) -> tuple[int, int]:
    """(a, s) of a node: its left child gets a of every s units. No part of it exceeds 2^31, so that int64 holds all."""
    low, middle, high = node
    left, total = sum(weights[low:middle]), sum(weights[low:high])
    if not total:
        return 0, ONE
    share = left / total  # of Fractions: exact
    if exact and share.denominator < 1 << 31:
        return share.numerator, share.denominator
    a = math.floor(share * ONE * 2 + 1) // 2
    return a, ONE


def _handed(units: Ints, a: Ints, s: Ints, r: Ints) -> Ints:
    """⌊(r + a·units) / s⌋, without overflow."""
    whole, rest = np.divmod(units, s)
    handed: Ints = whole * a + (r + a * rest) // s
    return handed


def _hashed(value: npt.NDArray[np.uint64], key: np.uint64) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA 2014) of value · golden ratio + key."""
    h = value * np.uint64(0x9E3779B97F4A7C15) + key
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashed: npt.NDArray[np.uint64] = h ^ (h >> np.uint64(31))
    return hashed
