"""The similarity of pairs is exact while all shingles are kept, and an unbiased estimate beyond."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.preprocess.near import verification
from datapipe.preprocess.near.verification import jaccards

SETS = st.lists(st.sets(st.integers(0, 40), max_size=20), min_size=1, max_size=6)


@given(SETS, st.randoms(use_true_random=False), st.sampled_from([1, 7, 1 << 20]))
@settings(max_examples=150, deadline=None)
def test_exact(sets, random, chunk):
    """For every pair, whatever the size of a chunk: |A ∩ B| / |A ∪ B|."""
    pairs = [(i, j) for i in range(len(sets)) for j in range(len(sets))]
    random.shuffle(pairs)
    arrays = [np.array(sorted(each), np.uint32) for each in sets]
    one, two = (np.array([pair[side] for pair in pairs]) for side in (0, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "CHUNK", chunk)
        found = jaccards(arrays, np.ones(len(sets), bool), one, two)
    expected = [len(sets[i] & sets[j]) / max(1, len(sets[i] | sets[j])) for i, j in pairs]
    assert found.tolist() == expected


@pytest.mark.parametrize("jaccard", [0.5, 0.8])
def test_estimate_beyond_the_sketch(jaccard):
    """200 pairs of 3,000 shingles, 500 kept: the mean error is none, its spread that of a sample of 500."""
    draw = np.random.default_rng(1)
    errors = []
    for _ in range(200):
        common = round(2 * 3000 * jaccard / (1 + jaccard))
        drawn = draw.choice(1 << 32, 6000 - common, replace=False).astype(np.uint32)
        sets = [np.sort(np.concatenate([drawn[:common], part])) for part in np.split(drawn[common:], 2)]
        kept = [each[:500] for each in sets]
        (found,) = jaccards(kept, np.zeros(2, bool), np.array([0]), np.array([1]))
        errors.append(found - common / (6000 - common))
    spread = (jaccard * (1 - jaccard) / 500) ** 0.5
    assert abs(np.mean(errors)) < 4 * spread / 200**0.5
    assert np.std(errors) < 1.2 * spread


def test_a_whole_set_against_a_cut_one():
    """Only below the greatest hash kept of the one that was cut is there anything to compare."""
    whole, cut = np.array([1, 5, 9, 70, 80], np.uint32), np.array([1, 5, 10], np.uint32)
    (found,) = jaccards([whole, cut], np.array([True, False]), np.array([0]), np.array([1]))
    assert found == 2 / 4
