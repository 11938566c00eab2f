"""Keyed draws are functions of seed, epoch, row id and name alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datapipe.steps.draws import bits, uniform, uniforms
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


@given(st.permutations(range(30)), st.integers(1, 40))
def test_several_draws_of_a_row_are_its_own_and_more_leave_the_first_as_they_were(order, count):
    keys = Keys(seed=7)
    whole = uniforms(IDS[:30], keys, "a", 40)
    assert np.array_equal(uniforms([IDS[i] for i in order], keys, "a", count), whole[list(order), :count])


def test_several_draws_do_not_go_together():
    """Each is uniform, and neither another of the row's nor the single draw of the same name tells of it."""
    draws = np.column_stack([uniforms(IDS, Keys(), "a", 4), uniform(IDS, Keys(), "a")])
    assert draws.min() >= 0
    assert draws.max() < 1
    assert np.abs(draws.mean(0) - 0.5).max() < 0.01
    assert np.abs(np.corrcoef(draws.T) - np.eye(5)).max() < 0.03
    assert uniforms(["x"], Keys(seed=1, epoch=2), "a", 2).tolist() == [[0.8625470014567631, 0.47348416566400475]]
