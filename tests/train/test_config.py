"""What a run may be told."""

import json

import pytest

from datapipe.errors import ConfigError
from datapipe.train import TrainConfig


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"steps": True}, {"warmup": -1}, {"accumulate": 0}, {"lr": 0.0}, {"lr": float("nan")},
     {"lr": "3e-3"}, {"eps": 0}, {"lr_floor": 1.5}, {"weight_decay": -1}, {"clip": 0}, {"betas": (0.9, 1.0)},
     {"betas": (0.9,)}, {"keep": 0}, {"checkpoint_every": -1}, {"seed": -1}, {"seed": 1 << 63}],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_name(wrong):
    """Each is a ConfigError that names the field and what would be right."""
    with pytest.raises(ConfigError, match=next(iter(wrong))) as fault:
        TrainConfig(**{"steps": 10} | wrong)
    assert fault.value.expected


def test_it_survives_json(make_config):
    """What a checkpoint keeps compares equal to the config that it came from."""
    told = make_config(clip=None)
    assert told.differences(json.loads(json.dumps(told.as_dict()))) == []


def test_differences_name_each_field_that_the_numbers_depend_on(make_config, make_shape):
    saved = make_config(lr=1e-3, model=make_shape(width=32)).as_dict()
    assert make_config(lr=2e-3).differences(saved) == ["lr 0.001, here 0.002", "model.width 32, here 16"]
    assert make_config(lr=2e-3).fingerprint != make_config(lr=1e-3).fingerprint


def test_a_run_may_be_extended_and_moved(make_config):
    """Steps, device, checkpoint interval and number kept may differ when it goes on."""
    other = make_config(steps=99, device="auto", checkpoint_every=7, keep=9)
    assert make_config().differences(other.as_dict()) == []
    assert make_config().fingerprint == other.fingerprint


@pytest.mark.parametrize(
    "wrong",
    [{"label_smoothing": 1.5}, {"label_smoothing": -0.1}, {"eval_every": -1}, {"patience": 0}, {"patience": True},
     {"on_spike": "ignore"}, {"spike_sigma": 0}, {"spike_window": 3}, {"spike_window": 1 << 70},
     {"peak_flops": 0}, {"optimizer": ""},
     {"optimizer": 3}, {"schedule": None}, {"optimizer_options": [1]}, {"optimizer_options": {"a": object()}},
     {"schedule_options": {"a": float("nan")}}, {"decay_groups": {"x": "much"}}, {"decay_groups": {1: 0.1}},
     {"skip": {1: 0}}, {"skip": {-1: 2}}, {"skip": 3}, {"skip": {"a": 1}}, {"skip": {True: 1}}],
)  # fmt: skip
def test_what_came_later_is_checked_alike(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))) as fault:
        TrainConfig(**{"steps": 10} | wrong)
    assert fault.value.expected


def test_mappings_are_kept_as_json_would_give_them_back():
    """Copied, so that nobody changes a run's options behind its back; steps of `skip` may be texts, as in YAML."""
    mine = {"momentum": 0.9, "betas": (0.8, 0.9)}
    told = TrainConfig(steps=3, optimizer_options=mine, skip={"7": 2, 3: 1}, decay_groups={"*.bias": 0.1})
    mine["momentum"] = 0.1
    assert told.optimizer_options == {"momentum": 0.9, "betas": [0.8, 0.9]}
    assert list(told.skip.items()) == [(3, 1), (7, 2)]
    again = json.loads(json.dumps(told.as_dict()))
    assert told.differences(again) == []
    assert TrainConfig(**again) == told


def test_options_that_came_later_do_not_part_a_run_from_its_checkpoints(make_config):
    """A saved run that knew nothing of an option had its default; what is at its default adds nothing."""
    told = make_config()
    old = {name: value for name, value in told.as_dict().items() if name not in {"schedule", "optimizer_options"}}
    assert told.differences(old) == []
    assert make_config(schedule="linear").differences(old) == ["schedule 'cosine', here 'linear'"]
    assert make_config(skip={3: 1}).fingerprint == told.fingerprint
    assert make_config(schedule="linear").fingerprint != told.fingerprint
