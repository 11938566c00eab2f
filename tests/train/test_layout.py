"""Who is who among a run's processes."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.train import TrainConfig
from datapipe.train.layout import AXES, Layout, layout_of

SIZES = st.integers(1, 4)


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@given(SIZES, SIZES, SIZES, SIZES)
def test_every_rank_has_a_place_of_its_own(data, shard, tensor, pipeline):
    """Places are a bijection onto the grid, and each share of the batches is read by tensor x pipeline ranks."""
    layout = Layout(data=data, shard=1 if pipeline > 1 else shard, tensor=tensor, pipeline=pipeline)
    world = math.prod(layout.sizes(data * layout.shard * tensor * pipeline).values())
    places = [layout.place(rank, world) for rank in range(world)]
    assert len({tuple(place.values()) for place in places}) == world
    assert all(list(place) == list(AXES) for place in places)
    assert [place["tensor"] for place in places] == [rank % tensor for rank in range(world)]
    shares = [layout.data_rank(rank, world) for rank in range(world)]
    assert sorted(shares) == sorted(list(range(layout.data_size(world))) * (tensor * pipeline))


@given(st.integers(1, 12), SIZES)
def test_replicas_fill_what_was_started(world, tensor):
    """data=None is as many replicas as the processes allow, or a refusal that says how many are needed."""
    layout = Layout(tensor=tensor)
    if world % tensor:
        with pytest.raises(ConfigError, match="multiple") as fault:
            layout.sizes(world)
        assert "torchrun" in fault.value.fix
    else:
        assert layout.sizes(world)["data"] == world // tensor


def test_torchrun_s_variables_are_read(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    assert (Layout().data_rank(), Layout().data_size()) == (3, 4)
    assert (Layout(tensor=2).data_rank(), Layout(tensor=2).data_size()) == (1, 2)
    monkeypatch.setenv("RANK", "4")
    with pytest.raises(ConfigError, match="rank 4 of 4"):
        Layout().place()
    monkeypatch.setenv("WORLD_SIZE", "-4")
    with pytest.raises(ConfigError, match="WORLD_SIZE"):
        Layout().sizes()


def test_alone_it_is_one_process_and_more_need_torchrun():
    assert Layout().sizes() == dict.fromkeys(AXES, 1)
    with pytest.raises(ConfigError, match="in one process") as fault:
        Layout(data=2, tensor=2).sizes()
    assert "--nproc-per-node 4" in fault.value.fix


@pytest.mark.parametrize(
    "wrong",
    [{"data": 0}, {"shard": True}, {"tensor": "2"}, {"pipeline": -1}, {"pipeline": None}, {"microbatches": 0},
     {"pipeline": 4, "microbatches": 2}, {"schedule": "zigzag"}, {"timeout": 0}, {"timeout": float("inf")},
     {"timeout": "10"}],
)  # fmt: skip
def test_a_wrong_number_is_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=list(wrong)[-1]) as fault:
        Layout(**wrong)
    assert fault.value.expected


def test_what_torch_should_not_combine_is_refused_with_a_way_out():
    with pytest.raises(ConfigError, match="shard=2") as fault:
        Layout(pipeline=2, shard=2)
    assert "data=2" in fault.value.fix


def test_a_config_takes_a_mapping_and_survives_json():
    """A layout from YAML; it may differ when a run goes on, so it is in no fingerprint."""
    told = TrainConfig(steps=3, layout={"data": 2, "tensor": 2})
    assert told.layout == Layout(data=2, tensor=2)
    plain = json.loads(json.dumps(told.as_dict()))
    assert layout_of(plain["layout"]) == told.layout
    assert TrainConfig(steps=3).fingerprint == told.fingerprint
    assert TrainConfig(steps=3).differences(plain) == []


@pytest.mark.parametrize("wrong", [{"tensors": 2}, [2, 2], "data", {1: 2}, None])
def test_a_mapping_of_anything_else_is_refused(wrong):
    with pytest.raises(ConfigError, match="layout"):
        TrainConfig(steps=3, layout=wrong)


@pytest.mark.parametrize("wrong", [{"recompute": 1}, {"compile": "yes"}, {"precision": "int8"}])
def test_switches_are_switches(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TrainConfig(steps=3, **wrong)
