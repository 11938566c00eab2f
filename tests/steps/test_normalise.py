"""normalise: golden values for every scale and fill; null, NaN, constant and empty columns; the same in any batch."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import Keys, bind, run_steps, steps_transform

FOUND = {
    "count": 5, "missing": 1, "min": 1.0, "max": 9.0, "mean": 4.0, "std": 2.0, "median": 3.0, "q25": 2.0, "q75": 6.0,
    "clip": [2.0, 8.0], "mode": 2.0,
    "log": {"mean": 1.0, "std": 0.5, "min": math.log1p(1), "max": math.log1p(9)},
}  # fmt: skip
EMPTY = {
    **dict.fromkeys(("min", "max", "mean", "std", "median", "q25", "q75", "clip", "mode", "log")), "count": 0,
    "missing": 3,
}  # fmt: skip


def step(options, found=None, **more):
    statistics = json.dumps({"version": 1, "columns": {"x": FOUND if found is None else found}})
    return bind("normalise", {"columns": {"x": options}, "statistics": statistics, "dtype": "float64", **more})


def of(options, values, found=None, kind=None):
    table = pa.table({"row_id": [str(i) for i in range(len(values))], "x": pa.array(values, kind)})
    return run_steps(table, [step(options, found)], Keys()).table["x"].to_pylist()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("none", [1.0, 9.0, None]),
        ("zscore", [-1.5, 2.5, None]),
        ("minmax", [0.0, 1.0, None]),
        ("robust", [-0.5, 1.5, None]),
        ({"scale": "none", "fill": "mean"}, [1.0, 9.0, 4.0]),
        ({"scale": "zscore", "fill": "mean"}, [-1.5, 2.5, 0.0]),
        ({"scale": "none", "fill": "median"}, [1.0, 9.0, 3.0]),
        ({"scale": "none", "fill": "mode"}, [1.0, 9.0, 2.0]),
        ({"scale": "none", "fill": "constant", "constant": -7}, [1.0, 9.0, -7.0]),
        ({"scale": "none", "low": 2, "high": 5}, [2.0, 5.0, None]),
        ({"scale": "none", "clip": [0.1, 0.9]}, [2.0, 8.0, None]),
        ({"scale": "minmax", "clip": [0.1, 0.9], "fill": "mean"}, [0.0, 1.0, 1 / 3]),
        ({"scale": "none", "log": True}, [math.log1p(1), math.log1p(9), None]),
        ({"scale": "zscore", "log": True}, [(math.log1p(1) - 1) / 0.5, (math.log1p(9) - 1) / 0.5, None]),
        ({"scale": "minmax", "log": True}, [0.0, 1.0, None]),
        (
            {"scale": "robust", "log": True},
            [
                (math.log1p(1) - math.log1p(3)) / (math.log1p(6) - math.log1p(2)),
                (math.log1p(9) - math.log1p(3)) / (math.log1p(6) - math.log1p(2)),
                None,
            ],
        ),
    ],
)
def test_golden(options, expected):
    """Each scale, bound, logarithm and fill, in float64: the same numbers to the last bit."""
    assert of(options, [1.0, 9.0, None]) == expected


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float32(), pa.float64(), pa.decimal128(10, 2)])
def test_any_number(kind):
    """Integers, floats and decimals of any width are the numbers they are."""
    values = [Decimal(1), None, Decimal(9)] if pa.types.is_decimal(kind) else [1, None, 9]
    assert of("minmax", values, kind=kind) == [0.0, None, 1.0]


def test_truth_values_and_nulls():
    """True is 1; a column of nulls without a type is a column of nulls."""
    assert of("none", [True, False, None]) == [1.0, 0.0, None]
    assert of("none", [None, None], kind=pa.null()) == [None, None]
    assert of({"fill": "mean"}, [None, None], kind=pa.null()) == [0.0, 0.0]


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_not_finite_is_null(odd):
    """NaN and infinity are no values: null, or filled."""
    assert of("zscore", [odd, 4.0]) == [None, 0.0]
    assert of({"scale": "none", "fill": "median"}, [odd]) == [3.0]
    assert of({"scale": "none", "low": 0, "high": 5}, [odd]) == [None], "infinity is not clipped into a value"


def test_no_logarithm():
    """At -1 and below there is none: null, even where nulls are filled; 0 has one."""
    assert of({"scale": "none", "log": True, "fill": "mean"}, [-1.0, -5.0, 0.0, None]) == [
        None, None, 0.0, math.log1p(4),
    ]  # fmt: skip
    negative = {**FOUND, "min": -3.0, "log": {**FOUND["log"], "min": -2.0}}
    low = of({"scale": "minmax", "log": True}, [math.expm1(-2.0)], negative)
    assert low == [pytest.approx(0.0, abs=1e-12)]
    none = {**FOUND, "min": -3.0, "max": -2.0, "log": None}
    assert of({"scale": "zscore", "log": True}, [-3.0, None], none) == [None, None]


@pytest.mark.parametrize("scale", ["zscore", "minmax", "robust"])
def test_a_constant_column_becomes_zero(scale):
    """Nothing is divided by nothing."""
    constant = {**FOUND, "min": 4.0, "max": 4.0, "std": 0.0, "median": 4.0, "q25": 4.0, "q75": 4.0}
    assert of(scale, [4.0, None], constant) == [0.0, None]


@pytest.mark.parametrize("scale", ["zscore", "minmax", "robust", "none"])
@pytest.mark.parametrize("fill", ["none", "mean", "median", "mode"])
@pytest.mark.parametrize("log", [True, False])
def test_an_empty_column_stays_null(scale, fill, log):
    """A column without any value has no mean to fill with; nothing is invented."""
    options = {"scale": scale, "fill": fill, "log": log, "clip": [0.1, 0.9]}
    assert of(options, [None, None], EMPTY) == [None, None]
    assert of({"scale": scale, "fill": "constant", "constant": 3}, [None], EMPTY) == [3.0 if scale == "none" else 0.0]


NUMBERS = st.lists(st.none() | st.floats(width=64), max_size=20)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "scale": st.sampled_from(["zscore", "minmax", "robust", "none"]),
        "log": st.booleans(),
        "low": st.floats(-10, 0),
        "high": st.floats(1, 10),
        "clip": st.just([0.1, 0.9]),
        "fill": st.sampled_from(["none", "mean", "median", "mode", "constant"]),
    },
)


@given(NUMBERS, RULES, st.integers(0, 20))
@settings(deadline=None)
def test_each_value_alone(values, rules, cut):
    """In batches of any size a value gives the same bits, never NaN and never infinity where the input is sane."""
    whole = of(rules, values, kind=pa.float64())
    assert of(rules, values[:cut], kind=pa.float64()) + of(rules, values[cut:], kind=pa.float64()) == whole
    assert [of(rules, [value], kind=pa.float64())[0] for value in values] == whole
    assert not any(value is not None and math.isnan(value) for value in whole)


def test_float32_and_suffix():
    """By default float32, rounded once from float64; with a suffix the column itself stays."""
    table = pa.table({"row_id": ["a"], "x": [2.0]})
    statistics = json.dumps({"version": 1, "columns": {"x": {**FOUND, "std": 3.0}}})
    bound = bind("normalise", {"columns": {"x": "zscore"}, "suffix": "_n", "statistics": statistics})
    result = run_steps(table, [bound], Keys()).table
    assert result.schema.field("x_n").type == pa.float32()
    assert result["x_n"].to_pylist() == [float(np.float32(-2.0 / 3.0))]
    assert result["x"].to_pylist() == [2.0]
    assert bound.spec.kind == "map"


def test_without_statistics_it_is_global_and_passes():
    """The half that runs while statistics are collected changes nothing, and says what it needs."""
    bound = bind("normalise", {"columns": {"x": "zscore"}})
    assert bound.spec.kind == "global"
    assert bound.spec.needs == ("x",)
    table = pa.table({"row_id": ["a"], "x": [2.0]})
    assert run_steps(table, [bound], Keys()).table.equals(table)


@pytest.mark.parametrize(
    "options",
    [
        {"scale": "z"},
        {"clip": [0.9, 0.1]},
        {"clip": [0.1]},
        {"low": 3, "high": 1},
        {"low": math.inf},
        {"fill": "zero"},
    ],
)
def test_refused(options):
    """Options that cannot be meant."""
    with pytest.raises(ConfigError):
        bind("normalise", {"columns": {"x": options}})


def test_no_numbers():
    """A column of texts is refused, and the message says which step makes numbers of it."""
    with pytest.raises(ConfigError, match="schema"):
        of("zscore", ["1"])


@pytest.mark.parametrize("text", ["{}", "{", '{"version": 2, "columns": {}}', '{"version": 1, "columns": {"y": {}}}',
                                  "/no/such/file.json"])  # fmt: skip
def test_statistics_that_are_none(text):
    """A file that is not there, is no JSON, of another version or lacks the column is refused at once."""
    with pytest.raises(ConfigError, match="statistics"):
        bind("normalise", {"columns": {"x": "zscore"}, "statistics": text})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), max_size=30),
    st.sampled_from(["float32", "float64", "int16"]),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from(["zscore", "minmax", "robust", "none"]),
    st.sampled_from(
        [{}, {"low": -3.5}, {"clip": [0.1, 0.9]}, {"low": 2, "high": 5, "clip": [0.1, 0.9], "fill": "mean"}]
    ),
)
def test_the_fast_way_gives_the_same_bits(values, kind, dtype, scaling, more):
    """Where it says anything, it says what the plain way says, to the bit, whatever the type and the cuts."""
    from datapipe.steps.normalise import Scaling, numbers, scale
    from datapipe.steps.scaled import scaled

    if kind == "int16":
        values = [int(value) % 30_000 if math.isfinite(value) else 1 for value in values]
    array = pa.chunked_array([pa.array(values[:7], kind), pa.array(values[7:], kind)])
    options = Scaling(scale=scaling, **{k: tuple(v) if k == "clip" else v for k, v in more.items()})
    plain = scale(numbers(pa.table({"x": array}), "x", options), options, FOUND)
    expected = pa.array(plain, from_pandas=True).cast(dtype, safe=False)
    found = scaled(array, options, FOUND, dtype)
    everything = all(math.isfinite(value) for value in values)
    assert (found is not None) == (everything and scaling != "none")
    if found is not None:
        assert found.null_count == 0
        assert found.to_numpy().tobytes() == expected.to_numpy(zero_copy_only=False).tobytes()


def test_what_is_measured_by_is_not_needed_to_apply():
    """Rows of one part were measured; those that come later have no such column."""
    known = {"version": 1, "columns": {"x": {**FOUND, "values": ["a", "b"]}}}
    for name, value in (("normalise", 6.0), ("categories", "b")):
        options = {"columns": {"x": {}}, "measure": {"split": "train"}}
        assert bind(name, options).spec.needs == ("x", "split")
        bound = bind(name, {**options, "statistics": json.dumps(known)})
        transform = steps_transform([bound])
        assert transform(pa.table({"row_id": ["a"], "x": [value]})).num_rows == 1


def test_measured_and_applied_later():
    """apply: online leaves the columns as they are; another step with the same statistics scales them."""
    table = pa.table({"row_id": ["a"], "x": [6.0]})
    assert run_steps(table, [step("zscore", apply="online")], Keys()).table["x"].to_pylist() == [6.0]
    assert run_steps(table, [step("zscore")], Keys()).table["x"].to_pylist() == [1.0]
