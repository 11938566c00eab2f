"""Best fit, placed by classes of equal length, is best fit placed item by item."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datapipe.best_fit import best_fit, count_bins, cut_to_fit


def one_by_one(lengths, capacity):
    """The definition: the longest item first, into the fullest bin that has room, the last one filled so far."""
    stacks = [[] for _ in range(capacity + 1)]
    placed, count = np.zeros(len(lengths), np.int64), 0
    for item in np.argsort(-lengths, kind="stable").tolist():
        need = int(lengths[item])
        space = next((s for s in range(need, capacity + 1) if stacks[s]), None)
        if space is None:
            space, target, count = capacity, count, count + 1
        else:
            target = stacks[space].pop()
        placed[item] = target
        stacks[space - need].append(target)
        stacks[0].clear()
    names = {}
    return [names.setdefault(bin_, len(names)) for bin_ in placed.tolist()], count


@given(st.integers(1, 24).flatmap(lambda c: st.tuples(st.just(c), st.lists(st.integers(1, c), max_size=80))))
def test_classes_of_equal_length_go_where_each_item_would(case):
    """Bin by bin the same as the definition, and counted without being placed."""
    capacity, items = case
    lengths = np.array(items, np.int64)
    placed, count = best_fit(lengths, capacity)
    assert (placed.tolist(), count) == one_by_one(lengths, capacity)
    assert count_bins(lengths, capacity) == count
    assert all(lengths[placed == each].sum() <= capacity for each in range(count))


@given(st.lists(st.integers(1, 50), max_size=60), st.randoms(use_true_random=False))
def test_the_number_of_bins_depends_on_no_order(items, random):
    shuffled = list(items)
    random.shuffle(shuffled)
    assert best_fit(np.array(items, np.int64), 50)[1] == best_fit(np.array(shuffled, np.int64), 50)[1]


@given(st.lists(st.integers(0, 40), max_size=20), st.integers(1, 15))
def test_pieces_cover_each_item_in_order(items, capacity):
    item, start, length = cut_to_fit(np.array(items, np.int64), capacity)
    covered = [[] for _ in items]
    for i, s, n in zip(item.tolist(), start.tolist(), length.tolist(), strict=True):
        assert 1 <= n <= capacity
        covered[i] += range(s, s + n)
    assert covered == [list(range(n)) for n in items]
