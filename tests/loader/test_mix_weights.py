"""Weights: what is written becomes one exact table, whose digest tells any change."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from datapipe.errors import ConfigError
from datapipe.loader.mix_weights import read_weights

AB = ("a", "b")


def test_decimals_are_taken_as_written():
    """0.7 is 7/10, also from numpy; units do not matter."""
    exact = read_weights(AB, {"a": 0.7, "b": 0.3})
    assert exact.rows == ((Fraction(7, 10), Fraction(3, 10)),)
    for other in ({"a": 7, "b": 3}, {"b": np.float64(0.3), "a": np.float64(0.7)}, {"a": Fraction(7), "b": 3.0}):
        assert read_weights(AB, other) == exact
        assert read_weights(AB, other).digest == exact.digest


def test_a_function_is_a_table():
    """Asked at fixed steps; equal neighbours are one row; the digest tells a change far out."""
    constant = read_weights(AB, lambda step: {"a": 1, "b": 1})
    assert (constant.steps, constant.digest) == ((0,), read_weights(AB, {"a": 2, "b": 2}).digest)
    at = 3_000_000
    late = read_weights(AB, lambda step: {"a": 1, "b": 1 + (step >= at)})
    assert len(late.steps) == 2
    assert at <= late.steps[1] <= at * (1 + 1 / 128)
    assert late.at(at - 1) == {"a": 0.5, "b": 0.5}
    assert late.digest != constant.digest
    assert len(read_weights(AB, lambda step: {"a": 1, "b": step}).steps) < 8000


def test_an_error_of_a_function_says_for_which_step():
    with pytest.raises(ConfigError, match=r"asked for step 500,: 'b' is -1"):
        read_weights(AB, lambda step: {"a": 1, "b": -1 if step == 500 else 1})


def test_mixes_within_mixes_multiply_phase_by_phase():
    outer = read_weights(AB, [(0, {"a": 1, "b": 1}), (10, {"a": 0, "b": 1})])
    inner = read_weights(("x", "y"), [(0, {"x": 1, "y": 0}), (5, {"x": 1, "y": 3})])
    both = outer.within({"b": inner})
    assert both.names == ("a", "b/x", "b/y")
    assert both.steps == (0, 5, 10)
    assert both.at(0) == {"a": 0.5, "b/x": 0.5, "b/y": 0}
    assert both.at(7) == {"a": 0.5, "b/x": 0.125, "b/y": 0.375}
    assert both.at(11) == {"a": 0, "b/x": 0.25, "b/y": 0.75}
