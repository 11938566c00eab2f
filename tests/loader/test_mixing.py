"""What is no mixture, and a state of another one, are refused by name."""

from __future__ import annotations

import json

import pytest

from datapipe.errors import ConfigError, StateError
from datapipe.loader import mix
from tests.loader.mixed_rows import NAMES, loader, mixture, source, told

pytestmark = pytest.mark.filterwarnings("ignore:the dataset has")


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        ({"a": 1}, {}, "say nothing of 'b'"),
        ({"a": 1, "b": 1, "bb": 1}, {}, "name 'bb', which is no source"),
        ({"a": -1, "b": 1}, {}, "'a' is -1"),
        ({"a": float("nan"), "b": 1}, {}, "'a' is nan"),
        ({"a": float("inf"), "b": 1}, {}, "'a' is inf"),
        ({"a": "1", "b": 1}, {}, "'a' is '1'"),
        ({"a": True, "b": 1}, {}, "'a' is True"),
        ({"a": 0, "b": 0}, {}, "all 0"),
        ([(0, {"a": 1, "b": 1}), (0, {"a": 1, "b": 1})], {}, "weights at steps"),
        ([(1, {"a": 1, "b": 1})], {}, "weights at steps"),
        ([], {}, "weights at steps"),
        ([(0, 3)], {}, "weights="),
        (3, {}, "weights=3"),
        (lambda step: None, {}, "gives None"),
        ({"a": 1, "b": 1}, {"until": "last"}, "until='last'"),
        ({"a": 1, "b": 1}, {"until": 0}, "until=0"),
        ({"a": 1, "b": 1}, {"until": True}, "until=True"),
        ({"a": 1, "b": 1}, {"by": "bytes"}, "by='bytes'"),
        ({"a": 1, "b": 1}, {"seed": 1.5}, "seed=1.5"),
        ({"a": 1, "b": 1}, {"source": 3}, "source=3"),
    ],
)
def test_what_is_no_mix_is_refused(of_tables, weights, options, message):
    data = {name: source(of_tables, name, [5]) for name in "ab"}
    with pytest.raises(ConfigError, match=message):
        mix(data, weights, **options)


def test_sources_that_are_none_are_refused(of_tables):
    with pytest.raises(ConfigError, match="sources="):
        mix({})
    with pytest.raises(ConfigError, match="is a path"):
        mix({"a": "/data"})
    with pytest.raises(ConfigError, match="named 3"):
        mix({3: source(of_tables, "a", [1])})
    empty = mix({"a": source(of_tables, "a", [4]), "b": source(of_tables, "b", [0])}, {"a": 1, "b": 1})
    with pytest.raises(ConfigError, match="source 'b' has no rows"):
        loader(empty, 2)


def test_a_state_of_another_mix_is_refused_with_what_differs(of_tables):
    """Each difference by name: weights, sources, their content, seed, end, geometry; a mix is no dataset."""
    sizes = [[5, 6], [7]]
    first = loader(mixture(of_tables, sizes, [7, 3]), 2)
    state = json.loads(json.dumps(first.state_dict()))

    def refused(data, message):
        one = loader(data, 2)
        with pytest.raises(StateError, match=message):
            one.load_state_dict(state)

    refused(mixture(of_tables, sizes, [6, 4]), "weights of the mix {'a': 0.7, 'b': 0.3}, here {'a': 0.6, 'b': 0.4}")
    refused(mixture(of_tables, sizes, [7, 3], seed=1), "seed of the mix 0, here 1")
    refused(mixture(of_tables, sizes, [7, 3], until=9), "until of the mix 'all', here 9")
    refused(mixture(of_tables, [*sizes, [3]], [7, 3, 1]), "source 'c' is new")
    refused(mixture(of_tables, sizes[:1], [1]), "source 'b' is missing")
    changed = {name: source(of_tables, name, each) for name, each in zip(NAMES, sizes, strict=False)}
    changed["b"].fingerprint = "other"
    refused(mix(changed, {"a": 7, "b": 3}), "source 'b' was source b, here other")
    refused(source(of_tables, "a", [5, 6]), "it is of a mix and here one dataset")
    one = loader(mixture(of_tables, sizes, [7, 3]), 2, lanes=2)
    with pytest.raises(StateError, match="lanes"):
        one.load_state_dict(state)
    same = loader(mixture(of_tables, sizes, [0.7, 0.3]), 2)
    same.load_state_dict(state)


def test_the_recorded_geometry_holds_where_nobody_asked_for_another(of_tables, monkeypatch):
    """Defaults may change: a state made under others goes on as it began."""
    mixed = mixture(of_tables, [[6] * 16, [3] * 16], [1, 1])
    first = loader(mixed, 4)
    whole = [told(b) for b in first]
    state = {**first.state_dict(), "epoch": 0, "position": 3}
    monkeypatch.setattr("datapipe.loader.geometry.MAX_LANES", 1)
    other = loader(mixed, 4)
    assert other.settings.mix != first.settings.mix
    other.load_state_dict(state)
    assert [told(b) for b in other] == whole[3:]
