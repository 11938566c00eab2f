"""The learning-rate range test."""

import math

import pytest
import torch

from datapipe.errors import ConfigError, TrainError
from datapipe.train.tuning import lr_range_test
from datapipe.train.tuning.range_test import Smoothed, suggested

RATES = [10 ** (-6 + n / 10) for n in range(60)]


def curve(fall_at, rise_at):
    """Flat, then falling about one rate, then rising steeply from another."""
    return [
        5 - 2 / (1 + (fall_at / rate) ** 3) + (max(0.0, math.log(rate / rise_at)) if rate > rise_at else 0.0)
        for rate in RATES
    ]


@pytest.mark.parametrize("fall_at", [1e-5, 1e-4, 1e-3])
def test_it_suggests_where_the_loss_falls_fastest(fall_at):
    """Of a curve with one fall the suggestion is its middle, within a step of the grid; the tenth is of its lowest."""
    losses = curve(fall_at, rise_at=fall_at * 30)
    suggestion, tenth, why = suggested(RATES, losses)
    assert why == ""
    assert fall_at / 1.3 <= suggestion <= fall_at * 1.3
    assert tenth == RATES[losses.index(min(losses))] / 10


def test_curves_that_suggest_nothing():
    """A loss that only rises, or a test that ended at once, gives a reason; one that only falls gives no tenth."""
    assert suggested(RATES, [1 + rate for rate in RATES])[::2] == (
        None, "the loss never fell: more steps, or a lower rate to begin with",
    )  # fmt: skip
    assert "only 5 steps" in suggested(RATES[:5], [5, 4, 3, 2, 1])[2]
    suggestion, tenth, _ = suggested(RATES, [1 - n / 100 for n in range(60)])
    assert suggestion is not None
    assert tenth is None


def test_smoothing_has_no_pull_to_zero():
    """The mean of equal losses is that loss from the first on."""
    smooth = Smoothed()
    assert [smooth.add(3.0) for _ in range(5)] == pytest.approx([3.0] * 5)
    assert smooth.add(5.0) == pytest.approx((3.0 * (1 - 0.98**5) * 0.98 + 0.02 * 5) / (1 - 0.98**6))


def test_a_run_with_a_growing_rate(make_config, make_loader, make_shape):
    """The rates rise by equal factors; the first step is the run's own; the loader and the folder are left alone."""
    loader = make_loader()
    told = make_config(model=make_shape(layers=1), steps=3)
    next(iter(loader))
    before = loader.state_dict()
    test = lr_range_test(told, loader, low=1e-4, high=1.0, steps=20)
    assert loader.state_dict() == before
    factors = [after / rate for rate, after in zip(test.rates, test.rates[1:], strict=False)]
    assert test.rates[0] == pytest.approx(1e-4)
    assert factors == pytest.approx([1e4 ** (1 / 19)] * len(factors))
    assert len(test.losses) == len(test.smoothed) == len(test.rates)
    assert test.losses[0] == pytest.approx(math.log(61), abs=0.1)
    assert test.suggestion is not None
    again = lr_range_test(told, loader, low=1e-4, high=1.0, steps=20)
    assert again == test


def test_it_ends_when_the_loss_runs_away(make_config, make_loader):
    """A loss far above the lowest, or none at all, is the end, not an error; no step at all is one."""

    class Explodes(torch.nn.Module):
        def __init__(self, at):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))
            self.at, self.calls = at, 0

        def loss_sum(self, _batch):
            self.calls += 1
            return self.weight.sum() * (self.at if self.calls > 14 else 1.0), torch.tensor(1)

    for at in (1e6, math.nan):
        test = lr_range_test(make_config(model=None), make_loader(), model=Explodes(at), low=1e-6, high=1e-5, steps=40)
        assert test.ran_away
        assert 14 <= len(test.rates) <= 15
    broken = Explodes(math.nan)
    broken.calls = 14
    with pytest.raises(TrainError):
        lr_range_test(make_config(model=None), make_loader(), model=broken)


@pytest.mark.parametrize(
    "told", [{"low": 0}, {"low": 1, "high": 0.1}, {"high": math.inf}, {"steps": 3}, {"steps": 1.5}]
)
def test_ranges_that_are_none(make_config, make_loader, told):
    """Refused before anything runs."""
    with pytest.raises(ConfigError, match="rates|steps"):
        lr_range_test(make_config(), make_loader(), **told)
