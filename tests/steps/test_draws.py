"""Keyed draws are functions of seed, epoch, row id and name alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datapipe.steps.draws import bits, uniform
from datapipe.steps.step import Keys

IDS = [f"file.jsonl:{i}" for i in range(20_000)]


@given(st.permutations(range(50)), st.integers(0, 2**63), st.integers(0, 5))
def test_a_draw_depends_on_no_other_row(order, seed, epoch):
    """Whatever rows are drawn with it, and in whatever order, a row's draw is the same."""
    keys = Keys(seed=seed, epoch=epoch)
    whole = uniform(IDS[:50], keys, "a")
    assert np.array_equal(uniform([IDS[i] for i in order], keys, "a"), whole[list(order)])


def test_every_part_of_the_key_matters():
    """Another seed, epoch or name gives other draws, and they do not go together."""
    base = uniform(IDS, Keys(), "a")
    for other in (uniform(IDS, Keys(seed=1), "a"), uniform(IDS, Keys(epoch=1), "a"), uniform(IDS, Keys(), "b")):
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.03


def test_uniform():
    """In [0, 1), with the mean and the spread of the uniform distribution."""
    draws = uniform(IDS, Keys(), "a")
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.01
    assert abs(draws.std() - 12**-0.5) < 0.01


def test_pinned():
    """Golden values: a change of the formula would change every published dataset."""
    assert bits(["a:0", "a:1"], Keys(seed=7, epoch=2), "sample.keep").tolist() == [
        10121602510667571157,
        15514466422299211175,
    ]
