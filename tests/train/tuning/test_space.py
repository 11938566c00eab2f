"""What a search may vary."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.train.tuning import Choice, Range, read_space
from datapipe.train.tuning.space import contains, draw, plain_space


class FakeTrial:
    """Draws what it is told to: the place of each value between the ends."""

    def __init__(self, place):
        self.place = place

    def suggest_float(self, _name, low, high, *, log):
        ends = (math.log(low), math.log(high)) if log else (low, high)
        at = ends[0] + self.place * (ends[1] - ends[0])
        return min(max(math.exp(at) if log else at, low), high)

    def suggest_categorical(self, _name, values):
        return values[min(int(self.place * len(values)), len(values) - 1)]


def test_a_space_as_a_file_gives_it():
    """Ranges and lists are read, numbers that YAML takes for words too, and written back as they were."""
    space = read_space({"lr": {"low": "1e-4", "high": 0.01, "log": True}, "precision": ["fp32", "bf16"]})
    assert space == {"lr": Range(low=1e-4, high=0.01, log=True), "precision": Choice(values=("fp32", "bf16"))}
    assert read_space(plain_space(space)) == space


@settings(deadline=None)
@given(st.floats(1e-9, 1e6), st.floats(1.001, 1e6), st.booleans(), st.floats(0, 1))
def test_what_is_drawn_lies_inside(low, factor, log, place):
    """Every value that a part draws is contained in it."""
    for part in (Range(low=low, high=low * factor, log=log), Choice(values=(1, True, "1", 2.5))):
        assert contains(part, draw(FakeTrial(place), "x", part))


def test_values_of_another_type_are_not_inside():
    """1 is neither True nor "1", and True is in no range."""
    assert not contains(Choice(values=(1,)), True)
    assert not contains(Choice(values=("1",)), 1)
    assert not contains(Range(low=0, high=2), True)
    assert not contains(Range(low=0, high=2), "1")


@pytest.mark.parametrize(
    ("plain", "named"),
    [
        ({}, "space"),
        (None, "space"),
        ([1], "space"),
        ({3: [1]}, "space"),
        ({"lr": 0.1}, "space.lr"),
        ({"lr": "abc"}, "space.lr"),
        ({"lr": {"low": 1}}, "space.lr"),
        ({"lr": {"low": 1, "high": 2, "step": 1}}, "space.lr"),
        ({"lr": {"low": "x", "high": 2}}, "space.lr"),
        ({"lr": {"low": True, "high": 2}}, "space.lr"),
        ({"lr": {"low": 2, "high": 1}}, "space.lr"),
        ({"lr": {"low": 1, "high": 1}}, "space.lr"),
        ({"lr": {"low": 0, "high": 1, "log": True}}, "space.lr"),
        ({"lr": {"low": 0, "high": 1, "log": "yes"}}, "space.lr"),
        ({"lr": {"low": 0, "high": math.inf}}, "space.lr"),
        ({"lr": {"low": math.nan, "high": 1}}, "space.lr"),
        ({"lr": []}, "space.lr"),
        ({"lr": [1, 1]}, "space.lr"),
        ({"lr": [[1]]}, "space.lr"),
        ({"lr": [math.nan]}, "space.lr"),
    ],
)
def test_what_is_none_is_refused_by_name(plain, named):
    """The message names the entry, and says what an entry looks like."""
    with pytest.raises(ConfigError, match=named) as caught:
        read_space(plain)
    assert caught.value.expected or caught.value.fix
