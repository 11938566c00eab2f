"""What counts as a spike: the rule, what enters its window, and that a resumed run judges alike."""

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.train.spikes import Sentinel
from datapipe.train.step import Gradient

NAN, INF = float("nan"), float("inf")


def gradient(loss, norm=1.0, targets=4.0):
    return Gradient(loss_sum=loss * targets, targets=targets, norm_of_sum=norm * targets, rows=2)


def quiet(sentinel, steps, seed=0):
    """Steps of a falling, noisy loss; what was found in them."""
    rng = random.Random(seed)
    return [
        found
        for step in range(steps)
        if (found := sentinel.judge(gradient(3 - step / 200 + rng.gauss(0, 0.05), 1 + rng.gauss(0, 0.1)))) is not None
    ]


def test_far_above_the_last_steps_is_a_spike_and_not_before_there_are_enough():
    """From step 64 of a window of 128; the loss before the norm; a fall is none."""
    sentinel = Sentinel(sigma=6.0, window=128)
    assert quiet(sentinel, 62) == []
    assert sentinel.judge(gradient(9.0)) is None, "too early to say"
    sentinel = Sentinel(sigma=6.0, window=128)
    assert quiet(sentinel, 64) == []
    assert sentinel.judge(gradient(0.5, 0.01)) is None
    spike = sentinel.judge(gradient(9.0, 50.0))
    assert (spike.what, spike.value) == ("loss", 9.0)
    assert 3 < spike.limit < 5
    spike = sentinel.judge(gradient(2.7, 50.0))
    assert (spike.what, spike.value) == ("gradient's norm", 50.0)
    assert "above" in str(spike)


def test_the_limit_is_sigma_deviations_above_the_mean():
    """Of the window alone: values that left it do not count."""
    sentinel = Sentinel(sigma=2.0, window=20)
    for loss in [50.0] * 7 + [1.0, 3.0] * 10:
        assert sentinel.judge(gradient(loss)) is None
    limit = 2.0 + 2.0 * math.sqrt(20 / 19)
    assert sentinel.judge(gradient(limit - 1e-6)) is None
    sentinel = Sentinel(sigma=2.0, window=20)
    for loss in [1.0, 3.0] * 10:
        sentinel.judge(gradient(loss))
    assert sentinel.judge(gradient(limit + 1e-6)).limit == pytest.approx(limit)


def test_one_huge_spike_does_not_hide_the_next():
    sentinel = Sentinel(sigma=6.0, window=128)
    quiet(sentinel, 128)
    assert sentinel.judge(gradient(1e30)).what == "loss"
    assert sentinel.judge(gradient(9.0)).what == "loss"


def test_a_lasting_rise_becomes_the_level():
    """A loss that stays at twice its level is a spike for a few steps only, fewer than end a run."""
    from datapipe.train.spikes import MOST_SKIPPED

    sentinel = Sentinel(sigma=6.0, window=128)
    quiet(sentinel, 128)
    found = [sentinel.judge(gradient(6.0)) is not None for _ in range(40)]
    assert 1 <= sum(found) < MOST_SKIPPED
    assert not any(found[10:])


@pytest.mark.parametrize(("loss", "norm", "what"), [(NAN, 1.0, "loss"), (INF, NAN, "loss"), (1.0, NAN, "gradient")])
def test_what_is_no_number_is_found_at_once_and_stays_out_of_the_window(loss, norm, what):
    """One NaN does not blind the next 128 steps."""
    sentinel = Sentinel(sigma=6.0, window=128)
    found = sentinel.judge(gradient(loss, norm))
    assert found.limit is None
    assert what in str(found)
    json.dumps(found.as_dict(), allow_nan=False)
    quiet(sentinel, 100)
    assert sentinel.judge(gradient(9.0)).limit is not None


def test_a_constant_loss_with_rounding_is_none():
    sentinel = Sentinel(sigma=6.0, window=20)
    for step in range(60):
        assert sentinel.judge(gradient(2.0 + (step % 7 == 0) * 1e-9)) is None


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 100, width=32), min_size=30, max_size=90), st.integers(0, 29))
def test_a_run_that_goes_on_judges_alike(losses, cut):
    """Through JSON, at any step."""
    whole, first, then = (Sentinel(sigma=2.0, window=20) for _ in range(3))
    expected = [whole.judge(gradient(loss)) for loss in losses]
    got = [first.judge(gradient(loss)) for loss in losses[:cut]]
    first.in_a_row = 3
    then.load(json.loads(json.dumps(first.state())))
    got += [then.judge(gradient(loss)) for loss in losses[cut:]]
    assert got == expected
    assert then.in_a_row == 3
