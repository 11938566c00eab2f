"""Column plans: decided from the schema; what cannot be delivered is refused by name."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from datapipe.errors import ConfigError, SchemaError
from datapipe.loader.columns import ColumnOptions, Kind, plan_columns


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
    assert plan(kind).kind is Kind.TEXT


def test_dictionaries_come_as_their_values():
    assert plan(pa.dictionary(pa.int8(), pa.float32())).out == np.dtype("f4")


@pytest.mark.parametrize(
    "kind",
    [
        pa.struct([]),
        pa.map_(pa.string(), pa.int8()),
        pa.list_(pa.list_(pa.int8())),
        pa.list_(pa.struct([("x", pa.int8())])),
        pa.month_day_nano_interval(),
        pa.null(),
    ],
)
def test_what_has_no_array_is_refused_by_name_with_a_way_out(kind):
    with pytest.raises(SchemaError, match="column 'c'") as caught:
        plan(kind)
    for way_out in ("columns=[...]", '"object"', 'collate="arrow"'):
        assert way_out in str(caught.value)
    assert plan(kind, dtypes={"c": "object"}).kind is Kind.OBJECTS


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.list_(pa.binary(), 2), pa.list_(pa.list_(pa.string()))])
def test_lists_of_text_come_as_python_lists(kind):
    assert plan(kind).kind is Kind.OBJECTS
    assert plan(kind, dtypes="stored").kind is Kind.OBJECTS


def test_structs_come_as_their_fields():
    kind = pa.struct([("x", pa.int32()), ("in", pa.struct([("y", pa.string()), ("z", pa.list_(pa.float32(), 2))]))])
    columns = plan_columns(pa.schema([("a", kind), ("b", pa.int8())]), {"a.x": "int32"}, nulls={"a.in.z": "nan"})
    assert [column.name for column in columns] == ["a.x", "a.in.y", "a.in.z", "b"]
    assert [column.path for column in columns][1:3] == [("a", "in", "y"), ("a", "in", "z")]
    assert columns[0].out == np.dtype(np.int32)
    with pytest.raises(ConfigError, match="did you mean 'a.x'"):
        plan_columns(pa.schema([("a", kind)]), {"a.xx": "int32"})


@pytest.mark.parametrize(
    "fields",
    [
        [("a", pa.struct([("b", pa.int8())])), ("a.b", pa.int8())],
        [("a", pa.struct([pa.field("b", pa.int8()), pa.field("b", pa.int8())]))],
    ],
)
def test_two_columns_of_one_name_are_refused(fields):
    with pytest.raises(SchemaError, match="needs the name a.b"):
        plan_columns(pa.schema(fields))


def test_a_decimal_is_refused_until_it_is_said_what_it_shall_become():
    kind = pa.decimal128(9, 2)
    with pytest.raises(SchemaError, match=r"(?s)decimal128.*float64.*unscaled.*10\^-2"):
        plan(kind)
    with pytest.raises(SchemaError, match="asked for as 'int64'"):
        plan(kind, dtypes={"c": "int64"})
    assert plan(kind, dtypes={"c": "unscaled"}).out == np.dtype(np.int64)
    assert plan(kind, dtypes={"c": "float32"}).out == np.dtype(np.float32)


def test_places_among_listed_values_are_numbers():
    for kind in (pa.string(), pa.int64(), pa.dictionary(pa.int8(), pa.string())):
        values = [3, 1] if kind == pa.int64() else ["b", "a"]
        assert plan(kind, dtypes={"c": values}).out == np.dtype(np.int64)
    for wrong in ([], ["a", "a"], ["a", None], [1]):
        with pytest.raises(ConfigError, match="dtypes"):
            plan(pa.string(), dtypes={"c": wrong})
    with pytest.raises(ConfigError, match="dictionary of its own"):
        plan(pa.dictionary(pa.int8(), pa.float64()), dtypes={"c": "codes"})


def test_stored_keeps_every_width():
    assert plan(pa.uint64(), dtypes="stored").out == np.dtype(np.uint64)
    assert plan(pa.int16(), dtypes={"c": "stored"}).out == np.dtype(np.int16)
    assert plan(pa.date32(), dtypes="stored").out == np.dtype(np.int32)
    assert plan(pa.string(), dtypes="stored").kind is Kind.TEXT
    with pytest.raises(ConfigError, match='or "stored"'):
        ColumnOptions(dtypes="int32")


def test_many_small_columns_are_kept_together_where_rows_are_shuffled():
    fields = [*((f"c{i}", pa.int8()) for i in range(3)), ("two", pa.list_(pa.int32(), 2)), ("s", pa.string())]
    schema = pa.schema([*fields, ("wide", pa.list_(pa.int32(), 17)), ("none", pa.list_(pa.int32(), 0))])
    together = {column.name for column in plan_columns(schema, together=True) if column.together}
    assert together == {"c0", "c1", "c2", "two"}
    assert not any(column.together for column in plan_columns(schema))
    assert not any(column.together for column in plan_columns(pa.schema(fields[1:]), together=True))


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
        (pa.list_(pa.string()), "int32"),
        (pa.int32(), "codes"),
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
    assert plan(pa.uint16(), narrow=True, dtypes={"c": "int32"}).out == np.dtype(np.uint16)
    assert plan(pa.uint8(), narrow=True, dtypes={"c": "float32"}).out == np.dtype(np.uint8)
    assert plan(pa.int32(), narrow=True, dtypes={"c": "float32"}).out == np.dtype(np.float32)  # not all are exact
    assert plan(pa.int64(), narrow=True, dtypes={"c": "int8"}).out == np.dtype(np.int8)


def test_a_null_that_the_stored_dtype_cannot_hold_is_cast_on_the_host():
    """The same nulls= is taken with and without a device; a fill that fits stays narrow."""
    for narrow in (True, False):
        assert plan(pa.uint8(), narrow=narrow, nulls=-1).out == np.dtype(np.int64)
        assert plan(pa.uint8(), narrow=narrow, nulls="nan", dtypes={"c": "float32"}).out == np.dtype(np.float32)
    assert plan(pa.uint8(), narrow=True, nulls=0).out == np.dtype(np.uint8)


def test_only_casts_that_can_overflow_have_bounds():
    assert plan(pa.int32()).bounds is None
    assert plan(pa.uint64()).bounds == (-(2**63), 2**63 - 1)
    assert plan(pa.int64(), dtypes={"c": "int8"}).bounds == (-128, 127)
