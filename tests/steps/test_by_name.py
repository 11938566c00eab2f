"""ByName: a mapping that can be an option: immutable, hashable, and in an order that survives JSON with sorted keys."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import StepSpec, options_from, plain_options
from datapipe.steps.by_name import ByName

EMPTY = ByName()


@dataclass(frozen=True, kw_only=True)
class Column:
    SHORT: ClassVar[str] = "type"
    type: str = "string"
    low: float | None = None
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Options:
    columns: ByName[Column] = EMPTY
    rates: ByName[float] = EMPTY


SPEC = StepSpec(name="toy", version=1, kind="map", options=Options, build=lambda _: None, summary="a toy")


def test_a_mapping_that_is_a_value():
    """It reads like a dict, hashes, and two of another order are not equal."""
    ab, ba = ByName({"a": 1, "b": 2}), ByName([("b", 2), ("a", 1)])
    assert dict(ab) == {"a": 1, "b": 2}
    assert list(ba) == ["b", "a"]
    assert len(ab) == 2
    assert ab == ByName({"a": 1, "b": 2})
    assert hash(ab) == hash(ByName({"a": 1, "b": 2}))
    assert ab != ba
    assert ab != {"a": 1, "b": 2}
    with pytest.raises(ValueError, match="'a' comes twice"):
        ByName([("a", 1), ("a", 2)])


def test_nested_options():
    """A mapping from names to options, each written out or by its short form, becomes frozen values."""
    given_ = {"columns": {"age": "int32", "pay": {"type": "float32", "low": 0}}, "rates": {"en": 1}}
    options = options_from(SPEC, given_)
    assert options.columns["age"] == Column(type="int32")
    assert options.columns["pay"].low == 0.0
    assert type(options.rates["en"]) is float
    hash(options)


@given(
    st.dictionaries(st.text(min_size=1), st.builds(Column, type=st.text(), low=st.none() | st.floats(allow_nan=False))),
    st.dictionaries(st.text(min_size=1), st.floats(allow_nan=False, allow_infinity=False)),
)
@settings(deadline=None)
def test_plain_and_back(columns, rates):
    """Plain options go through JSON with sorted keys and come back equal, order and all."""
    options = Options(columns=ByName(columns), rates=ByName(rates))
    plain = json.loads(json.dumps(plain_options(options), sort_keys=True))
    again = options_from(SPEC, plain)
    assert again == options
    assert list(again.columns) == list(columns)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"columns": {"age": {"typ": "int32"}}}, r"toy.columns.age has no option 'typ'.*did you mean 'type'"),
        ({"columns": {"age": {"low": "x"}}}, r"toy.columns.age.low = 'x'.*a number"),
        ({"columns": {"age": 3}}, r"toy.columns.age.type = 3.*a text"),
        ({"columns": "age"}, r"toy.columns = 'age'.*a mapping from names"),
        ({"columns": {"": "int32"}}, "toy.columns"),
        ({"columns": [["a", "int32"], ["a", "int32"]]}, "'a' twice"),
        ({"rates": {"en": True}}, r"toy.rates.en = True"),
        ({"rates": [["en"]]}, r"toy.rates"),
    ],
)
def test_refused(mapping, message):
    """A fault is told with its whole path, and what would be right."""
    with pytest.raises(ConfigError) as found:
        options_from(SPEC, mapping)
    assert __import__("re").search(message, str(found.value).replace("\n", " "))
