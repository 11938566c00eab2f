"""torch's own schedulers: the rates that stepping them gives, whichever step is asked for first."""

import warnings

import pytest
import torch
from torch.optim import lr_scheduler

from datapipe.errors import ConfigError
from datapipe.train.schedule import make_schedule

STEPS = 30
CASES = [
    ("OneCycleLR", {}, {"max_lr": 0.5, "total_steps": STEPS, "cycle_momentum": False}),
    ("CosineAnnealingLR", {}, {"T_max": STEPS}),
    ("CosineAnnealingWarmRestarts", {"T_0": 7}, {"T_0": 7}),
    ("PolynomialLR", {"power": 2.0}, {"power": 2.0, "total_iters": STEPS}),
    ("ExponentialLR", {"gamma": 0.9}, {"gamma": 0.9}),
    ("MultiStepLR", {"milestones": [5, 9]}, {"milestones": [5, 9]}),
    ("CyclicLR", {"base_lr": 0.1, "step_size_up": 4}, {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 4,
                                                      "cycle_momentum": False}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "torchs"), CASES, ids=[case[0] for case in CASES])
def test_the_rates_are_torchs(make_config, name, given, torchs):
    """From the last step to the first, as a run resumed anywhere would ask; in any case of letters."""
    config = make_config(steps=STEPS, warmup=0, lr=0.5, schedule=name.upper(), schedule_options=given)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5, momentum=0.9)
    scheduler = getattr(lr_scheduler, name)(optimizer, **torchs)
    expected = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(STEPS):
            expected.append(optimizer.param_groups[0]["lr"])
            if len(expected) < STEPS:
                scheduler.step()
    rate = make_schedule(config)
    assert [rate(step) for step in reversed(range(STEPS))] == expected[::-1]
    assert rate(STEPS + 50) == expected[-1]


def test_the_warm_up_is_before_it(make_config):
    """And the length it is given is what is left of the run."""
    rate = make_schedule(make_config(steps=14, warmup=4, lr=1.0, schedule="CosineAnnealingLR"))
    assert [rate(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rate(13) == pytest.approx(0.5 * (1 + torch.tensor(torch.pi * 9 / 10).cos().item()))


@pytest.mark.parametrize(
    ("told", "match"),
    [({"schedule": "ReduceLROnPlateau"}, "no function of the step"), ({"schedule": "LambdaLR"}, "takes a function"),
     ({"schedule": "cosin"}, "cosin"), ({"schedule": "LRScheduler"}, "LRScheduler"),
     ({"schedule": "ExponentialLR"}, "gamma"),
     ({"schedule": "StepLR", "schedule_options": {"stepsize": 3}}, "stepsize"),
     ({"schedule": "PolynomialLR", "schedule_options": {"power": "x"}}, "power")],
)  # fmt: skip
def test_what_cannot_be_scheduled_is_refused_with_its_reason(make_config, told, match):
    with pytest.raises(ConfigError, match=match) as fault:
        make_schedule(make_config(**told))
    assert fault.value.expected or fault.value.fix


def test_a_wrong_name_is_told_the_nearest(make_config):
    with pytest.raises(ConfigError) as fault:
        make_schedule(make_config(schedule="onecycle_lr"))
    assert "OneCycleLR" in fault.value.fix
