from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datapipe.profiling.intervals import _sweep, covered, partition, union, within


def arrays(intervals):
    table = np.array(intervals, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


@st.composite
def nested(draw, lo=0, hi=200, depth=3):
    """Properly nested intervals, as context managers make them."""
    out, at = [], lo
    while at < hi and draw(st.booleans()):
        start = draw(st.integers(at, hi))
        end = draw(st.integers(start, hi))
        out.append((start, end))
        if depth and end - start > 1:
            out += draw(nested(lo=start, hi=end, depth=depth - 1))
        at = end
    return out


intervals = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted), max_size=12)


def by_brute_force(starts, ends):
    """Exclusive length per interval, one unit of time at a time: the latest begun owns it."""
    owned = np.zeros(len(starts), dtype=np.int64)
    for t in range(int(ends.max(initial=0))):
        live = [i for i in range(len(starts)) if starts[i] <= t < ends[i]]
        if live:
            owned[max(live, key=lambda i: (starts[i], -ends[i], i))] += 1
    return owned


def owned_lengths(segments, n):
    return np.bincount(segments.owner, segments.end - segments.start, minlength=n).astype(np.int64)


@given(nested())
def test_nested_intervals_are_cut_as_a_sweep_cuts_them(intervals):
    """The vectorised way and the unit-by-unit truth agree, whoever of two equal intervals is named."""
    starts, ends = arrays(intervals)
    segments = partition(starts, ends)
    fast = owned_lengths(segments, len(starts))
    slow = by_brute_force(starts, ends)
    kinds = np.array([hash(pair) for pair in intervals], dtype=np.int64)
    for kind in set(kinds.tolist()):
        assert fast[kinds == kind].sum() == slow[kinds == kind].sum()


@given(intervals)
def test_segments_never_overlap_and_cover_the_union(intervals):
    """Also for intervals that overlap without nesting: nothing is counted twice, nothing is left out."""
    starts, ends = arrays(intervals)
    segments = partition(starts, ends)
    assert np.all(segments.start[1:] >= segments.end[:-1])
    left, right = union(starts, ends)
    assert (segments.end - segments.start).sum() == (right - left).sum()
    assert np.all(starts[segments.owner] <= segments.start)
    assert np.all(ends[segments.owner] >= segments.end)
    fast, slow = owned_lengths(segments, len(starts)), by_brute_force(starts, ends)
    assert fast.sum() == slow.sum()


@given(nested())
def test_the_sweep_agrees_with_the_vectorised_way(intervals):
    """Both ways give the same exclusive time to every distinct interval."""
    pairs = sorted({pair for pair in intervals if pair[0] < pair[1]}, key=lambda p: (p[0], -p[1]))
    starts, ends = arrays(pairs)
    one = owned_lengths(partition(starts, ends), len(pairs))
    two = owned_lengths(_sweep(starts, ends, np.arange(len(pairs))), len(pairs))
    assert one.tolist() == two.tolist()


@given(intervals, intervals)
def test_covered_counts_the_overlap(intervals, others):
    """`covered` is the length of each interval that lies in the union of the others."""
    starts, ends = arrays(intervals)
    got = covered(starts, ends, union(*arrays(others)))
    for start, end, length in zip(starts.tolist(), ends.tolist(), got.tolist(), strict=True):
        assert length == sum(any(s <= t < e for s, e in others) for t in range(start, end))


@given(intervals, intervals)
def test_within_names_the_interval_that_holds_it_whole(intervals, others):
    starts, ends = arrays(intervals)
    left, right = union(*arrays(others))
    for start, end, k in zip(starts.tolist(), ends.tolist(), within(starts, ends, (left, right)).tolist(), strict=True):
        holders = [i for i in range(len(left)) if left[i] <= start and end <= right[i]]
        assert (k in holders) if holders and start < end else (k == -1 or k in holders)


def test_nothing_in_nothing_out():
    empty = np.empty(0, dtype=np.int64)
    assert len(partition(empty, empty).owner) == 0
    assert len(union(empty, empty)[0]) == 0
