"""Turn-taking in closed form is turn-taking, at any lane and at any length."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datapipe.loader.turns import Turns


@given(st.lists(st.integers(0, 12), min_size=1, max_size=9))
def test_counts_and_positions_are_those_of_a_plain_loop(lengths):
    """Each position's counts, and the position of each lane's every unit."""
    turns = Turns(np.array(lengths, np.int64))
    given_, counts, positions = [0] * len(lengths), [[0] * len(lengths)], [[] for _ in lengths]
    for turn in range(max(lengths)):
        for lane, length in enumerate(lengths):
            if length > turn:
                positions[lane].append(len(counts) - 1)
                given_[lane] += 1
                counts.append(list(given_))
    assert turns.counts(np.arange(sum(lengths) + 1)).tolist() == counts
    assert [turns.given(at) for at in range(sum(lengths) + 1)] == counts
    for lane, length in enumerate(lengths):
        assert turns.position(lane, np.arange(length)).tolist() == positions[lane]
    for rounds in range(max(lengths) + 2):
        assert turns.filled(rounds) == sum(min(length, rounds) for length in lengths)


def test_as_many_lanes_as_row_groups_cost_no_square():
    """100,000 lanes of different lengths: memory of a table of lanes by lengths would be 80 GB."""
    turns = Turns(np.arange(1, 100_001, dtype=np.int64))
    assert turns.counts([0, 10**9]).sum(axis=1).tolist() == [0, 10**9]
