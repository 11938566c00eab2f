"""Interval algebra on one thread's timeline: who is innermost, when, and for how long.

What enters: arrays of starts and ends (int64, ns). What leaves: a partition of the time they cover into segments,
each owned by the innermost interval (the latest begun that has not ended).
Invariant: the segments do not overlap and their lengths sum to the union of the intervals, so exclusive times add up.

Properly nested intervals (what context managers write) go a vectorised way, O(n log n); intervals that overlap
without nesting fall back to a sweep with the same answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]


class Segments(NamedTuple):
    """A partition: `owner[k]` is the interval that is innermost during `[start[k], end[k])`; int64[m] each."""

    start: Ints
    end: Ints
    owner: Ints


def partition(starts: Ints, ends: Ints) -> Segments:
    """Cut the union of the intervals into segments owned by the innermost interval, in order of time.

    Args:
        starts: int64[n], ns.
        ends: int64[n], ns; intervals of no length own nothing.
    """
    import numpy as np

    index = np.flatnonzero(ends > starts)
    # The outer of two that begin together comes first.
    index = index[np.lexsort((-ends[index], starts[index]))]
    begin, end = starts[index].astype(np.int64), ends[index].astype(np.int64)
    depth = np.arange(len(index)) - np.searchsorted(np.sort(end), begin, side="right")
    parent = _parents(depth)
    inner = parent >= 0
    if not bool(np.all(end[inner] <= end[parent[inner]])):
        return _sweep(begin, end, index)

    n = len(index)
    times = np.concatenate([begin, end])
    opens = np.concatenate([np.ones(n, dtype=np.int8), np.zeros(n, dtype=np.int8)])
    # At one instant: ends before starts, inner ends before outer ones, outer starts before inner ones.
    rank = np.concatenate([depth, -depth])
    after = np.concatenate([np.arange(n), parent])  # the owner once this event is over
    order = np.lexsort((rank, opens, times))
    times, after = times[order], after[order]
    keep = (times[1:] > times[:-1]) & (after[:-1] >= 0)
    return Segments(times[:-1][keep], times[1:][keep], index[after[:-1][keep]])


def _parents(depth: Ints) -> Ints:
    """The interval each nested interval lies in (-1: none), from the depths of intervals sorted by start."""
    import numpy as np

    parent = np.full(len(depth), -1, dtype=np.int64)
    above = np.flatnonzero(depth == 0)
    level = 1
    while len(mine := np.flatnonzero(depth == level)):
        parent[mine] = above[np.searchsorted(above, mine) - 1]
        above, level = mine, level + 1
    return parent


def _sweep(begin: Ints, end: Ints, index: Ints) -> Segments:
    """The same partition for intervals that overlap without nesting: the latest begun owns the time."""
    import heapq
    import itertools

    import numpy as np

    begins, ends = begin.tolist(), end.tolist()
    cuts = sorted({*begins, *ends})
    live: list[int] = []  # a heap of -position: the latest begun on top; those that ended leave lazily
    position, out = 0, []
    for left, right in itertools.pairwise(cuts):
        while position < len(begins) and begins[position] <= left:
            heapq.heappush(live, -position)
            position += 1
        while live and ends[-live[0]] <= left:
            heapq.heappop(live)
        if live:
            out.append((left, right, -live[0]))
    rows = np.array(out, dtype=np.int64).reshape(-1, 3)
    return Segments(rows[:, 0], rows[:, 1], index[rows[:, 2]])


def union(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """The union of the intervals as disjoint, sorted intervals (int64[m] starts, int64[m] ends)."""
    import numpy as np

    index = np.flatnonzero(ends > starts)
    index = index[np.argsort(starts[index], kind="stable")]
    begin, reach = starts[index], np.maximum.accumulate(ends[index]) if len(index) else ends[index]
    fresh = np.ones(len(index), dtype=bool)
    fresh[1:] = begin[1:] > reach[:-1]
    first = np.flatnonzero(fresh)
    last = np.append(first[1:], len(index)) - 1 if len(first) else first
    return begin[first], reach[last]


def covered(starts: Ints, ends: Ints, by: tuple[Ints, Ints]) -> Ints:
    """How many ns of each interval lie inside the disjoint, sorted intervals `by`; int64[n]."""
    import numpy as np

    left, right = by
    if not len(left):
        return np.zeros(len(starts), dtype=np.int64)
    before = np.concatenate([[0], np.cumsum(right - left)])

    def up_to(t: Ints) -> Ints:
        k = np.searchsorted(left, t, side="right")
        inside = np.where(k > 0, np.minimum(t - left[np.maximum(k - 1, 0)], (right - left)[np.maximum(k - 1, 0)]), 0)
        total: Ints = before[np.maximum(k - 1, 0)] + inside
        return total

    return up_to(ends) - up_to(starts)


def within(starts: Ints, ends: Ints, outer: tuple[Ints, Ints]) -> Ints:
    """Which of the disjoint, sorted intervals `outer` holds each interval whole (-1: none); int64[n]."""
    import numpy as np

    left, right = outer
    if not len(left):
        return np.full(len(starts), -1, dtype=np.int64)
    k = np.searchsorted(left, starts, side="right") - 1
    held = (k >= 0) & (ends <= right[np.maximum(k, 0)])
    return np.where(held, k, -1)
