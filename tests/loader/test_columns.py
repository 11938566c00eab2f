"""Column plans: decided from the schema; what cannot be delivered is refused by name."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from datapipe.errors import ConfigError, SchemaError
from datapipe.loader.columns import Kind, plan_columns


def plan(kind, **options):
    (column,) = plan_columns(pa.schema([("c", kind)]), **options)
    return column


@pytest.mark.parametrize(
    "kind",
    [
        pa.int8(),
        pa.uint16(),
        pa.int32(),
        pa.uint64(),
        pa.date32(),
        pa.timestamp("s"),
        pa.time64("ns"),
        pa.duration("ms"),
    ],
)
def test_whole_numbers_and_times_come_as_int64(kind):
    assert (plan(kind).kind, plan(kind).out) == (Kind.FIXED, np.dtype(np.int64))


@pytest.mark.parametrize(
    ("kind", "dtype"), [(pa.float16(), "f2"), (pa.float32(), "f4"), (pa.float64(), "f8"), (pa.bool_(), "?")]
)
def test_floats_and_booleans_are_kept(kind, dtype):
    assert plan(kind).out == np.dtype(dtype)


def test_lists_by_kind():
    assert plan(pa.list_(pa.int32(), 5)).shape == (5,)
    assert plan(pa.list_(pa.list_(pa.float32(), 4), 3)).shape == (3, 4)
    assert plan(pa.list_(pa.float32())).kind is Kind.RAGGED
    assert plan(pa.large_list(pa.int8())).out == np.dtype(np.int64)


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.binary(3),
        pa.dictionary(pa.int8(), pa.string()),
    ],
)
def test_text_comes_as_lists(kind):
    assert plan(kind).kind is Kind.OBJECTS


def test_dictionaries_come_as_their_values():
    assert plan(pa.dictionary(pa.int8(), pa.float32())).out == np.dtype("f4")


@pytest.mark.parametrize(
    "kind",
    [
        pa.struct([("x", pa.int32())]),
        pa.map_(pa.string(), pa.int8()),
        pa.list_(pa.string()),
        pa.list_(pa.list_(pa.int8())),
        pa.null(),
        pa.decimal128(9, 2),
    ],
)
def test_what_has_no_array_is_refused_by_name_with_a_way_out(kind):
    with pytest.raises(SchemaError, match="column 'c'") as caught:
        plan(kind)
    assert "columns=[...]" in str(caught.value)


@pytest.mark.parametrize("wanted", ["int32", np.int32, np.dtype(np.int32), "torch.int32"])
def test_dtypes_take_the_place_of_the_default(wanted):
    assert plan(pa.int16(), dtypes={"c": wanted}).out == np.dtype(np.int32)


def test_torch_dtypes_are_understood():
    torch = pytest.importorskip("torch")
    assert plan(pa.float64(), dtypes={"c": torch.float32}).out == np.dtype("f4")


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (pa.float32(), "int32"),
        (pa.int32(), "bool"),
        (pa.int32(), "no such"),
        (pa.int32(), "complex64"),
        (pa.string(), "int32"),
    ],
)
def test_a_dtype_that_changes_the_kind_is_refused(kind, wanted):
    with pytest.raises(ConfigError, match="dtypes"):
        plan(kind, dtypes={"c": wanted})


def test_a_misspelt_column_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'tokens'"):
        plan_columns(pa.schema([("tokens", pa.int32())]), {"token": "int32"})


def test_the_name_of_the_lengths_must_be_free():
    with pytest.raises(SchemaError, match="c_lengths"):
        plan_columns(pa.schema([("c", pa.list_(pa.int8())), ("c_lengths", pa.int8())]))


def test_narrow_keeps_what_the_device_can_widen():
    assert plan(pa.uint16(), narrow=True).out == np.dtype(np.uint16)
    assert plan(pa.uint64(), narrow=True).out == np.dtype(np.int64)  # with its range checked
    assert plan(pa.uint16(), narrow=True, dtypes={"c": "int32"}).out == np.dtype(np.int32)


def test_only_casts_that_can_overflow_have_bounds():
    assert plan(pa.int32()).bounds is None
    assert plan(pa.uint64()).bounds == (-(2**63), 2**63 - 1)
    assert plan(pa.int64(), dtypes={"c": "int8"}).bounds == (-128, 127)
