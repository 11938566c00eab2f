"""schema: declared types come out, whatever came in; a row that does not fit says which column and value."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import QUARANTINE, Keys, bind, run_steps

KEYS = Keys()


def cast(columns, **arrays):
    table = pa.table({"row_id": [str(i) for i in range(len(next(iter(arrays.values()))))], **arrays})
    return run_steps(table, [bind("schema", {"columns": columns})], KEYS)


def judged(kind, values, source=None):
    """Of each value: what it became, or the reason why nothing did."""
    ran = cast({"x": kind}, x=pa.array(values, source))
    out = dict(zip(ran.table["row_id"].to_pylist(), ran.table["x"].to_pylist(), strict=True))
    why = {row["row_id"]: row["reason"].removeprefix("schema_") for row in ran.marked.to_pylist()}
    return [why.get(str(i), out.get(str(i))) for i in range(len(values))]


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (
            "int8",
            ["1", "+2", "3.0", " 7 ", "-128", "", None, "x", "300", "1e3", "3.5", "٣", "0x1"],
            [1, 2, 3, 7, -128, None, None, "not_a_number", "out_of_range", *["not_a_number"] * 4],
        ),
        ("uint8", ["255", "-1", "256"], [255, "out_of_range", "out_of_range"]),
        (
            "int64",
            ["9007199254740993", "9223372036854775808", "-9223372036854775808"],
            [9007199254740993, "out_of_range", -(2**63)],
        ),
        ("float64", ["1", ".5", "5.", "-1e-3", "inf", "1e400", "1,5", "abc"],
         [1.0, 0.5, 5.0, -0.001, float("inf"), "out_of_range", "not_a_number", "not_a_number"]),
        ("float32", ["1e39", "0.1"], ["out_of_range", pytest.approx(0.1)]),
        ("bool", ["true", "FALSE", "Yes", "n", "1", "0", "", "maybe", "2"],
         [True, False, True, False, True, False, None, "not_a_bool", "not_a_bool"]),
        ("date", ["2020-02-29", "2021-02-29", "29.02.2020", ""],
         [dt.date(2020, 2, 29), "not_a_date", "not_a_date", None]),
        (
            "timestamp",
            ["2020-01-01", "2020-01-01T10:00:00+02:00", "2020-01-01 10:00:00.5", "2020-01-01T00:00:00Z", "soon"],
            [
                dt.datetime(2020, 1, 1),
                dt.datetime(2020, 1, 1, 8),
                dt.datetime(2020, 1, 1, 10, 0, 0, 500000),
                dt.datetime(2020, 1, 1),
                "not_a_date",
            ],
        ),
        ("decimal(5,2)", ["1.23", "-5", "1.234", "99999", "x", ""],
         [Decimal("1.23"), Decimal("-5.00"), "out_of_range", "out_of_range", "not_a_number", None]),
        ("string", ["", "a", None], ["", "a", None]),
    ],
)  # fmt: skip
def test_texts(kind, values, expected):
    """Golden values: what a text of a CSV file becomes, type by type."""
    assert judged(kind, values, pa.string()) == expected
    assert judged(kind, values, pa.large_string()) == expected
    assert judged(kind, values, pa.string_view()) == expected


@pytest.mark.parametrize(
    ("kind", "source", "values", "expected"),
    [
        ("int8", pa.int64(), [1, 300, None], [1, "out_of_range", None]),
        ("int32", pa.float64(), [3.0, 3.5, 1e300, None], [3, "not_a_number", "out_of_range", None]),
        ("int32", pa.float64(), [float("nan"), float("inf")], ["not_a_number", "out_of_range"]),
        ("float32", pa.float64(), [1e300, float("inf"), 0.5], ["out_of_range", float("inf"), 0.5]),
        ("float64", pa.int64(), [2**53 + 1], [2.0**53]),
        ("float32", pa.decimal128(10, 2), [Decimal("1.50")], [1.5]),
        ("bool", pa.int8(), [0, 1, 2, None], [False, True, "not_a_bool", None]),
        ("string", pa.int64(), [7, None], ["7", None]),
        ("string", pa.list_(pa.int64()), [[1]], ["not_text"]),
        ("int32", pa.list_(pa.int64()), [[1], None], ["not_a_number", None]),
        ("date", pa.timestamp("ns"), [dt.datetime(2020, 1, 1)], [dt.date(2020, 1, 1)]),
        ("timestamp", pa.timestamp("s", "Europe/Paris"), [dt.datetime(2020, 1, 1)],
         [dt.datetime(2020, 1, 1)]),
        ("int16", pa.bool_(), [True, None], [1, None]),
    ],
)  # fmt: skip
def test_typed_values(kind, source, values, expected):
    """Golden values: columns of Parquet files that have another type than the declared one."""
    assert judged(kind, values, source) == expected


def test_dictionaries_are_spelled_out():
    """A dictionary column is its values: batches of unlike dictionaries are one type."""
    ran = cast({"x": "category"}, x=pa.array(["r", "g", None]).dictionary_encode())
    assert ran.table.schema.field("x").type == pa.large_string()
    assert ran.table["x"].to_pylist() == ["r", "g", None]


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ({"type": "int32", "nullable": False}, ["1", "", None], [1, "null", "null"]),
        ({"type": "int32", "low": 0, "high": 9.5}, ["-1", "0", "9", "10"], ["out_of_range", 0, 9, "out_of_range"]),
        ({"type": "float64", "finite": True, "high": 1}, ["nan", "inf", "0.5"], ["not_finite", "not_finite", 0.5]),
        ({"type": "float64", "nulls": ["NA", "-999"]}, ["NA", "-999", ""], [None, None, "not_a_number"]),
        ({"allowed": ["r", "g"]}, ["r", "z", None], ["r", "not_allowed", None]),
        ({"type": "int8", "allowed": [1, 2]}, ["1", "3"], [1, "not_allowed"]),
        ({"type": "bool", "allowed": [True]}, ["yes", "no"], [True, "not_allowed"]),
        ({"pattern": "[a-z]+"}, ["abc", "abc\n", "Abc", ""], ["abc", "no_match", "no_match", "no_match"]),
        ({"type": "date", "low": "2020-01-01"}, ["2020-01-01", "2019-12-31"],
         [dt.date(2020, 1, 1), "out_of_range"]),
        ({"type": "date", "format": "%d.%m.%Y"}, ["31.12.2019", "2019-12-31"],
         [dt.date(2019, 12, 31), "not_a_date"]),
        ({"type": "decimal(4,2)", "low": 0.1}, ["0.10", "0.09"], [Decimal("0.10"), "out_of_range"]),
    ],
)  # fmt: skip
def test_rules(column, values, expected):
    """Nulls, bounds, allowed values, patterns and formats; a null breaks no rule but its own."""
    assert judged(column, values, pa.string()) == expected


def test_the_detail_names_column_and_value():
    """The first column that does not fit speaks, in the declared order; a long value is cut."""
    ran = cast({"b": "int8", "a": "int8"}, a=["x", "1", "z" * 500], b=["y", "q", "2"])
    assert [(m["reason"], m["detail"]) for m in ran.marked.to_pylist()][:2] == [
        ("schema_not_a_number", "b = 'y'"),
        ("schema_not_a_number", "b = 'q'"),
    ]
    assert len(ran.marked["detail"][2].as_py()) < 100


def test_files_of_unlike_schemas_become_one():
    """Columns missing, extra, of other types and in another order: one schema comes out, in the declared order."""
    columns = {"b": "float32", "a": "int32", "c": {"type": "string", "optional": True}}
    first = cast(columns, a=pa.array(["1", "2"]), b=pa.array(["0.5", ""]), more=pa.array([1, 2]))
    second = cast(columns, c=pa.array(["x"]), b=pa.array([1], pa.int8()), a=pa.array([3.0]))
    assert first.table.schema == second.table.schema
    assert first.table.column_names == ["row_id", "b", "a", "c"]
    assert pa.concat_tables([first.table, second.table])["a"].to_pylist() == [1, 2, 3]


def test_a_missing_column_quarantines_the_rows():
    """A file that lacks a column which is not optional loses its rows with that reason; none of them is emptied."""
    ran = cast({"a": "int32", "b": "int32"}, a=pa.array([1, 2]))
    assert ran.table.num_rows == 0
    assert set(ran.marked["reason"].to_pylist()) == {"schema_missing_column"}
    assert all("b" in detail for detail in ran.marked["detail"].to_pylist())
    assert cast({"b": {"optional": True, "nullable": False}}, a=pa.array([1])).marked["reason"].to_pylist() == [
        "schema_null"
    ]


def test_extra_columns():
    """What is not declared is left out, or kept as it is; the reader's own columns always stay."""
    table = pa.table({"row_id": ["a"], "text": ["t"], "__position": [0], "x": ["1"], "y": ["2"]})
    kept = {"columns": {"x": "int8"}, "extra": "keep"}
    assert run_steps(table, [bind("schema", kept)], KEYS).table.column_names == [
        "row_id",
        "text",
        "__position",
        "x",
        "y",
    ]
    dropped = run_steps(table, [bind("schema", {"columns": {"x": "int8"}})], KEYS).table
    assert dropped.column_names == ["row_id", "text", "__position", "x"]


VALUES = st.lists(
    st.none()
    | st.sampled_from(["", "1", "-1", "300", "x", "1.5", "nan", "2020-01-01", "true", "1e400", "é", "\0"])
    | st.text(max_size=6),
    max_size=30,
)


@given(VALUES, st.sampled_from(["int8", "float32", "bool", "date", "timestamp", "decimal(6,2)", "category"]), st.data())
@settings(deadline=None, max_examples=60)
def test_each_row_alone(values, kind, data):
    """Any column, cut anywhere: the same values, reasons and details as row by row; rows in are rows out and marked."""
    whole = cast({"x": {"type": kind, "nullable": False}}, x=pa.array(values, pa.string()))
    assert whole.table.num_rows + whole.marked.num_rows == len(values)
    cut = data.draw(st.integers(0, len(values)))
    step = bind("schema", {"columns": {"x": {"type": kind, "nullable": False}}})
    table = pa.table({"row_id": [str(i) for i in range(len(values))], "x": pa.array(values, pa.string())})
    parts = [run_steps(part, [step], KEYS) for part in (table.slice(0, cut), table.slice(cut))]
    # As texts: NaN equals nothing.
    assert str(pa.concat_tables([part.table for part in parts]).to_pydict()) == str(whole.table.to_pydict())
    assert pa.concat_tables([part.marked for part in parts]).equals(whole.marked)
    assert len({part.table.schema for part in parts} | {whole.table.schema}) == 1


def test_marked_rows_hold_null():
    """What does not fit is never a value that looks like one."""
    table = pa.table({"row_id": ["a", "b"], "x": ["300", "1"]})
    result = bind("schema", {"columns": {"x": {"type": "int16", "high": 9}}})(table, KEYS)
    assert result["x"].to_pylist() == [None, 1]
    assert result[QUARANTINE].to_pylist() == ["schema_out_of_range", None]


@pytest.mark.parametrize(
    "columns",
    [
        {"x": "int33"},
        {"x": "decimal(40,2)"},
        {"x": "decimal(2,3)"},
        {"x": {"type": "int8", "pattern": "x"}},
        {"x": {"pattern": "("}},
        {"x": {"type": "string", "low": 1}},
        {"x": {"type": "date", "low": 3}},
        {"x": {"type": "date", "low": "soon"}},
        {"x": {"type": "int8", "low": 3, "high": 1}},
        {"x": {"type": "int8", "allowed": ["many"]}},
        {"x": {"type": "int8", "format": "%d"}},
        {"row_id": "string"},
        {"__position": "int8"},
    ],
)
def test_a_schema_that_cannot_be_meant(columns):
    """A type, bound or rule that makes no sense is refused when the recipe is read."""
    with pytest.raises(ConfigError):
        bind("schema", {"columns": columns})
