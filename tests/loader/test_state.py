"""States: small, plain, and refused with the remedy where they do not fit."""

from __future__ import annotations

import json

import pytest

from datapipe.errors import StateError
from datapipe.loader import DataLoader, mix
from datapipe.loader.geometry import Geometry
from datapipe.loader.state import Settings, make_state, read_state, saved_geometry

SETTINGS = Settings(global_batch=32, seed=1, shuffle=True, lanes=4, window=2, tail="drop")


def read(state, settings=SETTINGS, fingerprint="dp1-a", world_size=4):
    return read_state(state, fingerprint, settings, world_size=world_size, steps=100)


def test_it_survives_json_and_says_where_it_stands():
    state = json.loads(json.dumps(make_state("dp1-a", SETTINGS, 3, 17)))
    assert read(state) == (3, 17)
    assert saved_geometry(state) == Geometry(lanes=4, window=2)
    assert set(state) == {"version", "fingerprint", "settings", "epoch", "position"}


def test_another_world_size_is_told_its_batch_size():
    state = make_state("dp1-a", SETTINGS, 0, 5)
    other = Settings(global_batch=64, seed=1, shuffle=True, lanes=4, window=2, tail="drop")
    with pytest.raises(StateError, match="global_batch 32, here 64") as caught:
        read(state, other, world_size=8)
    assert "batch_size=4 (global batch 32 over 8 ranks)" in str(caught.value)
    with pytest.raises(StateError, match="a world size that divides 32"):
        read(state, other, world_size=7)


def test_every_difference_is_named_with_its_remedy():
    other = Settings(global_batch=32, seed=2, shuffle=False, lanes=1, window=1, tail="pad")
    with pytest.raises(StateError) as caught:
        read(make_state("dp1-b", SETTINGS, 0, 5), other)
    for text in ("dp1-b", "dp1-a", "seed=1", "shuffle=True", "lanes=4", "window=2", "tail='drop'"):
        assert text in str(caught.value)


GOOD = make_state("dp1-a", SETTINGS, 0, 5)


@pytest.mark.parametrize(
    "state",
    [
        {},
        None,
        [],
        "state",
        {**GOOD, "version": 1},
        {**GOOD, "version": 3},
        {**GOOD, "version": None},
        {k: v for k, v in GOOD.items() if k != "position"},
        {**GOOD, "position": "5"},
        {**GOOD, "position": True},
        {**GOOD, "position": 101},
        {**GOOD, "position": -1},
        {**GOOD, "epoch": -1},
        {**GOOD, "fingerprint": None},
        {**GOOD, "settings": {}},
        {**GOOD, "settings": {**GOOD["settings"], "extra": 1}},
        {**GOOD, "settings": {**GOOD["settings"], "lanes": "4"}},
        {**GOOD, "settings": {**GOOD["settings"], "window": 0}},
        {**GOOD, "settings": {**GOOD["settings"], "global_batch": -1}},
        {**GOOD, "settings": {**GOOD["settings"], "pack": "x"}},
        {**GOOD, "settings": {**GOOD["settings"], "mix": 1}},
        {**GOOD, "epoch": 10**30},
    ],
)
def test_what_is_no_state_is_refused_as_such(state):
    with pytest.raises(StateError):
        read(state)


@pytest.mark.parametrize("given", [{"lanes": 10**30}, {"lanes": 3}, {"window": 9}, {"mix": {"geometry": [[1, 1]]}}])
def test_a_state_of_lanes_that_the_dataset_cannot_have_is_refused(memory, given):
    """At once, whatever is in it: of another dataset, or altered."""
    loader = DataLoader(memory([8, 5]), 2, collate="numpy", prefetch=0)
    state = loader.state_dict()
    state["settings"].update(given)
    with pytest.raises(StateError, match=f"{next(iter(given))} |one dataset"):
        loader.load_state_dict(state)


@pytest.mark.parametrize("geometry", [[], [[10**30, 1], [1, 1]], [[0, 1], [1, 1]], [[1, 9], [1, 1]]])
def test_a_state_of_a_mix_of_other_lanes_is_refused(memory, geometry):
    mixed = mix({name: memory([8, 5], fingerprint=name) for name in "ab"}, weights={"a": 0.5, "b": 0.5})
    loader = DataLoader(mixed, 2, collate="numpy", prefetch=0)
    state = loader.state_dict()
    state["settings"]["mix"] = {**state["settings"]["mix"], "geometry": geometry}
    with pytest.raises(StateError, match="lanes and windows of the sources"):
        loader.load_state_dict(state)
    state["settings"]["mix"]["sources"] = "0123456789abcdef"  # of very many
    with pytest.raises(StateError, match="sources of the mix '0123456789abcdef', here {'a': '"):
        loader.load_state_dict(state)
