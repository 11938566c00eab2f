"""The learning rate as a function of the step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.train.schedule import learning_rate


def test_it_rises_straight_and_falls_along_half_a_cosine():
    rates = [learning_rate(step, peak=1.0, warmup=4, steps=14, floor=0.1) for step in range(14)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[3] == 1.0
    assert rates[8] == pytest.approx(0.1 + 0.9 * 0.5)  # half-way down
    assert rates[13] == pytest.approx(0.1)
    assert rates[3:] == sorted(rates[3:], reverse=True)


@given(st.integers(0, 300), st.integers(0, 50), st.integers(1, 200), st.floats(0, 1))
def test_it_stays_between_nothing_and_the_peak(step, warmup, steps, floor):
    """Whatever the step and the shape, even a warm-up longer than the run: 0 < rate ≤ peak, but for a floor of 0."""
    rate = learning_rate(step, peak=2.0, warmup=warmup, steps=steps, floor=floor)
    assert 0 <= rate <= 2.0 + 1e-12
    assert rate > 0 or (floor < 1e-12 and step >= steps - 1)


def test_without_warm_up_it_begins_at_the_peak_and_past_the_end_stays_at_the_floor():
    assert learning_rate(0, peak=3.0, warmup=0, steps=10) == 3.0
    assert learning_rate(9, peak=3.0, warmup=0, steps=10) == pytest.approx(0.3)
    assert learning_rate(500, peak=3.0, warmup=0, steps=10) == pytest.approx(0.3)
    assert learning_rate(0, peak=3.0, warmup=0, steps=1) == pytest.approx(0.3)
