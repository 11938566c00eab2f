"""Moments in parts are the moments of the whole, and the same parts in the same order the same bits."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.preprocess.sketches.moments import Moments, moments_of

FLOATS = st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=40)


def of(values):
    return moments_of(np.array(values, np.float64))


@given(FLOATS, FLOATS, FLOATS)
@settings(deadline=None)
def test_in_parts(a, b, c):
    """Merged from either end, parts give the whole's counts and bounds exactly, mean and variance but for rounding."""
    left, right = of(a).merged(of(b)).merged(of(c)), of(a).merged(of(b).merged(of(c)))
    whole = of([*a, *b, *c])
    for one in (left, right):
        assert (one.count, one.missing, one.low, one.high) == (whole.count, whole.missing, whole.low, whole.high)
        if whole.count:
            assert one.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-9)
            assert one.m2 == pytest.approx(whole.m2, rel=1e-9, abs=1e-3)
    again = of(a).merged(of(b)).merged(of(c))
    assert again == left


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40))
@settings(deadline=None)
def test_against_exact_arithmetic(values):
    """Mean and standard deviation are those of exact fractions."""
    found = of(values)
    assert found.mean == pytest.approx(statistics.mean(values), rel=1e-12, abs=1e-12)
    assert found.std == pytest.approx(statistics.pstdev(values), rel=1e-6, abs=1e-6)


def test_golden():
    """A large offset does not cost the variance its digits, in one part or in three."""
    values = np.array([1e9, 1e9 + 1, 1e9 + 2] * 1000)
    assert of(values).std == pytest.approx(math.sqrt(2 / 3), rel=1e-12)
    parts = [moments_of(part) for part in np.array_split(values, 3)]
    assert parts[0].merged(parts[1]).merged(parts[2]).std == pytest.approx(math.sqrt(2 / 3), rel=1e-9)


@pytest.mark.parametrize("constant", [0.1, 1e-300, 1.7e308, -0.0])
def test_a_constant_has_no_spread(constant):
    """Rounding never makes a spread of a constant column, nor moves its mean."""
    found = of([constant] * 7).merged(of([constant] * 3))
    assert found.std == 0.0
    assert found.mean == constant


def test_nothing_and_one():
    """No value at all has no mean; one value is its own."""
    assert of([]) == Moments()
    assert of([math.nan]) == Moments(missing=1)
    assert of([math.nan]).std is None
    assert of([3.0]).std == 0.0
    assert Moments().merged(of([3.0])).mean == 3.0


def test_beyond_float64():
    """Values whose squares overflow have a finite spread: JSON has no infinity."""
    found = of([1.7e308, -1.7e308, 1.7e308]).merged(of([-1.7e308]))
    assert math.isfinite(found.std)
    assert math.isfinite(found.mean)
