"""options_from: values of exactly the declared type, in range, by a known name; or an error that says how to go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import StepSpec, options_from, plain_options
from datapipe.steps.options import in_range, nearest


@dataclass(frozen=True, kw_only=True)
class Options:
    whole: int = 1
    real: float = 0.5
    flag: bool = False
    name: str = "x"
    maybe: int | None = None
    choice: Literal["a", "b", 1] = "a"
    many: tuple[str, ...] = ()

    def __post_init__(self):
        in_range("toy.whole", self.whole, 0, 10)
        in_range("toy.real", self.real, 0)


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    pass


SPEC = StepSpec(name="toy", version=1, kind="map", options=Options, build=lambda _: None, summary="a toy")


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("whole", 3, 3),
        ("real", 2, 2.0),
        ("real", 0.25, 0.25),
        ("flag", True, True),
        ("name", "", ""),
        ("maybe", None, None),
        ("maybe", 7, 7),
        ("choice", "b", "b"),
        ("choice", 1, 1),
        ("many", ["p", "q"], ("p", "q")),
        ("many", (), ()),
    ],
)
def test_accepted(name, value, got):
    """What is taken, and as what: the only changes are whole number → float and list → tuple."""
    result = getattr(options_from(SPEC, {name: value}), name)
    assert result == got
    assert type(result) is type(got)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("whole", True, "a whole number"),
        ("whole", 3.0, "a whole number"),
        ("whole", "3", "a whole number"),
        ("whole", None, "a whole number"),
        ("whole", [3], "a whole number"),
        ("real", True, "a number"),
        ("real", "0.5", "a number"),
        ("flag", 1, "true or false"),
        ("flag", "true", "true or false"),
        ("name", 5, "a text"),
        ("name", None, "a text"),
        ("maybe", "7", "a whole number or null"),
        ("maybe", False, "a whole number or null"),
        ("choice", "c", "one of 'a', 'b', 1"),
        ("choice", True, "one of 'a', 'b', 1"),
        ("choice", ["a"], "one of 'a', 'b', 1"),
        ("many", "pq", "a list, each element a text"),
        ("many", ["p", 1], "a text"),
        ("many", {"p": 1}, "a list, each element a text"),
    ],
)
def test_refused(name, value, expected):
    """A value of another type is refused, never bent; the message names option, value and what would be right."""
    with pytest.raises(ConfigError) as caught:
        options_from(SPEC, {name: value})
    assert expected in caught.value.expected
    assert f"toy.{name}" in caught.value.got


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"whole": 11}, "toy.whole = 11"),
        ({"whole": -1}, "at least 0 and at most 10"),
        ({"real": float("nan")}, "nan"),
        ({"real": float("inf")}, "inf"),
        ({"real": -0.1}, "at least 0"),
        ({"hole": 1}, "did you mean 'whole'"),
        ({"Whole": 1}, "did you mean 'whole'"),
        ({"zzz": 1}, "no option 'zzz'"),
        ({3: 1}, "no option 3"),
    ],
)
def test_out_of_range_or_unknown(options, message):
    """Ranges and names are checked, and the nearest name is offered."""
    with pytest.raises(ConfigError, match=message):
        options_from(SPEC, options)


def test_no_options_at_all():
    """A step without options says so."""
    spec = StepSpec(name="bare", version=1, kind="map", options=NoOptions, build=lambda _: None, summary="bare")
    assert options_from(spec, {}) == NoOptions()
    with pytest.raises(ConfigError, match="no options at all"):
        options_from(spec, {"x": 1})


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "whole": st.integers(0, 10),
            "real": st.floats(0, 1e300),
            "flag": st.booleans(),
            "name": st.text(),
            "maybe": st.none() | st.integers(),
            "choice": st.sampled_from(["a", "b", 1]),
            "many": st.lists(st.text()),
        },
    )
)
@settings(deadline=None)
def test_round_trip(mapping):
    """Plain values of options give the same options back."""
    options = options_from(SPEC, mapping)
    assert options_from(SPEC, plain_options(options)) == options
    assert {name: plain_options(options)[name] for name in mapping} == mapping


def test_nearest():
    """A near name is offered, a far one is not; a prefix counts as near."""
    assert nearest("tokenise", ["tokenize", "pack"]) == "did you mean 'tokenize'?"
    assert nearest("gopher", ["gopher_quality@whitespace", "pack"]) == "did you mean 'gopher_quality@whitespace'?"
    assert nearest("qqqqqq", ["tokenize", "pack"]) is None
    assert nearest("nope", ["unicode", "decode"]) is None
    assert nearest("", ["tokenize"]) is None
    assert nearest("x", []) is None
