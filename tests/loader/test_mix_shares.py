"""Whose turn it is: counts and turns agree, and stay within the stated bound of the ideal."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.loader.mix_shares import ONE, Shares

WEIGHTS = st.integers(1, 9).flatmap(
    lambda k: st.lists(
        st.lists(st.integers(0, 9), min_size=k, max_size=k).filter(any).map(lambda row: list(map(Fraction, row))),
        min_size=1,
        max_size=3,
    )
)
KEYS = st.one_of(st.none(), st.integers(0, (1 << 64) - 1))


@given(weights=WEIGHTS, key=KEYS, gaps=st.lists(st.integers(1, 90), min_size=2, max_size=2), at=st.integers(0, 10**15))
def test_counts_are_the_turns_summed_up(weights, key, gaps, at):
    """Anywhere, however far out: each position is one source's, whose count goes up by one there."""
    starts = np.cumsum([0, *gaps])[: len(weights)].tolist()
    shares = Shares(starts, weights, key)
    for begin in (0, at):
        positions = np.arange(begin, begin + 150)
        counts = shares.counts(np.append(positions, begin + 150))
        assert (counts.sum(axis=1) == np.append(positions, begin + 150)).all()
        assert (np.diff(counts, axis=0) == np.eye(shares.sources, dtype=int)[shares.of(positions)]).all()


@given(weights=WEIGHTS.map(lambda rows: rows[:1]), key=KEYS, at=st.integers(0, 10**12))
def test_every_count_is_within_the_bound(weights, key, at):
    """At every position of a stretch that begins anywhere."""
    shares = Shares([0], weights, key)
    positions = np.arange(at, at + 300)
    counts = shares.counts(positions)
    for k, weight in enumerate(weights[0]):
        share = weight / sum(weights[0])
        bound = shares.bound(float(share))
        ideal = [n * share for n in positions.tolist()]
        assert all(abs(c - n) <= bound + 1e-9 for c, n in zip(counts[:, k].tolist(), ideal, strict=True))


@given(phases=st.lists(st.tuples(st.integers(1, 40), st.integers(0, 7)), min_size=1, max_size=60))
def test_nothing_adds_up_from_phase_to_phase(phases):
    """Two sources stay within half a unit of the sum of their shares, however often these change."""
    starts = np.cumsum([0, *(length for length, _ in phases)])[:-1].tolist()
    shares = Shares(starts, [[Fraction(w, 7), 1 - Fraction(w, 7)] for _, w in phases], None)
    ideal = np.cumsum([0, *(w / 7 for length, w in phases for _ in range(length))])
    counts = shares.counts(np.arange(len(ideal)))[:, 0]
    assert (np.abs(counts - ideal) <= 0.5 + len(ideal) / ONE + 1e-9).all()


@given(weights=WEIGHTS, key=KEYS, units=st.integers(1, 200), data=st.data())
def test_reaches_is_the_first_position(weights, key, units, data):
    """One less and the source has not given as many; never, where it has no weight in the end."""
    shares = Shares([0, 70, 90][: len(weights)], weights, key)
    source = data.draw(st.integers(0, shares.sources - 1))
    found = shares.reaches(source, units)
    if found is None:
        assert not weights[-1][source]
        assert shares.counts([10**9])[0, source] < units
    else:
        assert shares.counts([found])[0, source] == units
        assert shares.counts([found - 1])[0, source] == units - 1


def test_turns_within_a_block_are_random_and_balanced_over_it():
    """Shuffled, a block's pattern is another each time, its counts are not; of two seeds neither is the other's."""
    one, other = (
        Shares([0], [[Fraction(1), Fraction(3)]], key).of(np.arange(16 * 500)).reshape(-1, 16) for key in (1, 2)
    )
    assert (one.sum(axis=1) == 12).all()
    assert len({row.tobytes() for row in one}) > 400
    assert not np.array_equal(one, other)
    first = (one[:, :-1] == 0) & (one[:, 1:] == 0)
    assert first.any(), "runs of one source occur"


@pytest.mark.parametrize("sources", [1, 2, 3, 1000])
def test_many_sources_have_a_small_bound(sources):
    """Half a row per doubling, for equal weights; 8 more where they are shuffled."""
    weights = [[Fraction(1)] * sources]
    assert Shares([0], weights, None).bound(1 / sources) == (sources - 1).bit_length() / 2
    assert Shares([0], weights, 1).bound(1 / sources) <= (sources - 1).bit_length() / 2 + 16
