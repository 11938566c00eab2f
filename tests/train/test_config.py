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
