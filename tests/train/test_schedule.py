"""The learning rate as a function of the step."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.train.schedule import learning_rate, make_schedule


def test_it_rises_straight_and_falls_along_half_a_cosine():
    rates = [learning_rate(step, peak=1.0, warmup=4, steps=14, floor=0.1) for step in range(14)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[3] == 1.0
    assert rates[8] == pytest.approx(0.1 + 0.9 * 0.5)  # half-way down
    assert rates[13] == pytest.approx(0.1)
    assert rates[3:] == sorted(rates[3:], reverse=True)


@settings(deadline=None)
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


def rates(make_config, schedule, steps=20, **told):
    rate = make_schedule(make_config(steps=steps, warmup=0, lr=1.0, lr_floor=0.1, schedule=schedule, **told))
    return [rate(step) for step in range(steps)]


def test_each_shape_by_its_name(make_config):
    """Straight, flat, flat and then down by 1 - sqrt, in stairs; each from the peak, none below the floor."""
    assert rates(make_config, "cosine") == [learning_rate(step, peak=1.0, warmup=0, steps=20) for step in range(20)]
    assert rates(make_config, "linear") == pytest.approx([1 - 0.9 * step / 19 for step in range(20)])
    assert rates(make_config, "Constant") == [1.0] * 20
    wsd = rates(make_config, "wsd", steps=21, schedule_options={"decay": 0.5})
    assert wsd[:11] == [1.0] * 11
    assert wsd[11:] == pytest.approx([0.1 + 0.9 * (1 - (k / 10) ** 0.5) for k in range(1, 11)])
    straight = rates(make_config, "wsd", steps=21, schedule_options={"decay": 0.5, "shape": "linear"})
    assert straight[11:] == pytest.approx([0.1 + 0.9 * (1 - k / 10) for k in range(1, 11)])
    every = rates(make_config, "step", schedule_options={"every": 6, "gamma": 0.5})
    assert every == pytest.approx([1.0] * 6 + [0.5] * 6 + [0.25] * 6 + [0.125] * 2)
    at = rates(make_config, "step", schedule_options={"at": [3, 5], "gamma": 0.2})
    assert at == pytest.approx([1.0] * 3 + [0.2] * 2 + [0.1] * 15)


@pytest.mark.parametrize(
    ("schedule", "options", "match"),
    [("cosine", {"decay": 1}, "has no option 'decay'"), ("wsd", {"decya": 0.1}, "decya"),
     ("wsd", {"decay": 0}, "decay"), ("wsd", {"shape": "cube"}, "cube"), ("step", {}, "every"),
     ("step", {"every": 3, "at": [4]}, "every"), ("step", {"every": 0}, "every"), ("step", {"at": [2, 0.5]}, "at"),
     ("step", {"every": 2, "gamma": 2}, "gamma")],
)  # fmt: skip
def test_a_wrong_option_is_refused_by_name(make_config, schedule, options, match):
    with pytest.raises(ConfigError, match=match):
        make_schedule(make_config(schedule=schedule, schedule_options=options))
