"""Filters: what they keep, what they refuse, and that statistics never change the answer."""

import datetime as dt
import decimal
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datapipe import open_dataset
from datapipe.dataset.bounds import bounds_of
from datapipe.dataset.filters import ALL, NONE, SOME, read_filter
from datapipe.errors import ConfigError, SchemaError

SCHEMA = pa.schema([("n", pa.int64()), ("x", pa.float64()), ("s", pa.string()), ("l", pa.list_(pa.int8()))])
F = pc.field


@pytest.mark.parametrize(
    ("filters", "kind", "match"),
    [
        ([("m", "==", 1)], SchemaError, r"no column 'm'[\s\S]*n, x, s"),
        ([("lang", "==", 1)], SchemaError, "no column 'lang'"),
        ([("s", ">", 3)], SchemaError, r"cannot be applied[\s\S]*datapipe describe"),
        ([("s", "in", [1, 2])], SchemaError, "cannot be applied"),
        ([("l", "==", 3)], SchemaError, "cannot be applied"),
        ([("n", "~", 3)], ConfigError, "operator '~'"),
        ([("n", "==", None)], ConfigError, "null equals nothing"),
        ([("n", "in", [1, None])], ConfigError, "null equals nothing"),
        ([("x", "in", [float("nan")])], ConfigError, "NaN"),
        ([("n", "in", 3)], ConfigError, "a list of values"),
        (("n", "==", 3), ConfigError, r"filters=\[\('n', '==', 3\)\]"),
        ([], ConfigError, "filters"),
        ([[]], ConfigError, "a filter"),
        ("n == 3", ConfigError, "filters"),
        ([("n", "==")], ConfigError, "filter"),
        (F("m") == 1, SchemaError, "no column 'm'"),
        (F("m", "k") == 1, SchemaError, "no column 'm'"),
        (F(0) == 1, ConfigError, "by number"),
        (F("n") + 1, SchemaError, "gives int64"),
        (F("s") == 3, SchemaError, "cannot be applied"),
        (pc.scalar(value=True), ConfigError, "reads no column"),
    ],
)
def test_what_is_refused(filters, kind, match):
    """A filter that means nothing is refused, with what would, before a row is read."""
    with pytest.raises(kind, match=match):
        read_filter(filters, SCHEMA)


def test_columns_are_those_read():
    assert read_filter([("x", ">", 1), ("n", "==", 2)], SCHEMA).columns == ("n", "x")
    assert read_filter((F("s") == "FieldPath(1)") | F("x").is_null(), SCHEMA).columns == ("x", "s")


def test_names():
    """The name is that of the meaning: order and repeats do not count, values and operators do."""
    name = lambda filters: read_filter(filters, SCHEMA).canonical  # noqa: E731
    one = name([("n", "=", 1), ("s", "in", ["b", "a"])])
    assert one == name([[("s", "in", ["a", "b", "a"]), ("n", "==", np.int32(1)), ("n", "==", 1)]])
    others = [
        [("n", "==", 2), ("s", "in", ["a", "b"])], [("n", "!=", 1), ("s", "in", ["a", "b"])],
        [[("n", "==", 1)], [("s", "in", ["a", "b"])]], F("n") == 1, F("n").isin(range(1000)),
        F("n").isin([*range(500), 7, *range(501, 1000)]),
    ]  # fmt: skip
    assert len({one, *map(name, others)}) == len(others) + 1
    assert name(F("n") == 1) == name(pickle.loads(pickle.dumps(F("n") == 1)))


def test_nulls_are_unknown():
    """As in SQL: a comparison with null is not true, and neither is its opposite."""
    table = pa.table({"n": [1, None, 3], "x": [float("nan"), 0.5, None]})
    kept = lambda filters: read_filter(filters, table.schema).mask(table).to_pylist()  # noqa: E731
    assert kept([("n", "==", 1)]) == [True, False, False]
    assert kept([("n", "!=", 1)]) == [False, False, True]
    assert kept([("n", "not in", [1])]) == [False, False, True]
    assert kept([("n", "in", [1])]) == [True, False, False]
    assert kept([("x", "!=", 0.5)]) == [True, False, False]
    assert kept([("x", ">", 0)]) == [False, True, False]
    assert kept([[("n", "==", 1)], [("x", "<", 1)]]) == [True, True, False]
    assert kept(F("n").is_null()) == [False, True, False]


def test_times_may_be_written_as_text():
    table = pa.table({"d": [dt.date(2020, 1, 1), dt.date(2021, 1, 1)]})
    assert read_filter([("d", ">=", "2020-06-01")], table.schema).mask(table).to_pylist() == [False, True]
    with pytest.raises(SchemaError, match="last Tuesday"):
        read_filter([("d", ">=", "last Tuesday")], table.schema)


@pytest.mark.parametrize(
    ("column", "op", "value", "kept"),
    [
        (pa.array([-1, 0, 1]), "<", 0.5, [True, True, False]),
        (pa.array([-1, 0, 1]), "==", -0.5, [False, False, False]),
        (pa.array([-1, 0, 1]), "in", [0.5, 1.0], [False, False, True]),
        (pa.array([-1, 0, 1]), ">", decimal.Decimal("0.5"), [False, False, True]),
        (pa.array([0.1, 0.2], pa.float32()), "==", 0.1, [False, False]),
        (pa.array([0.1, 0.2], pa.float32()), "in", [0.1], [False, False]),
        (pa.array([1, 2], pa.timestamp("s")), "<", dt.datetime(1970, 1, 1, 0, 0, 1, 500000), [True, False]),
        (pa.array([1, 2], pa.timestamp("s")), "==", dt.datetime(1970, 1, 1, 0, 0, 1, 500000), [False, False]),
        (pa.array([1, 2], pa.timestamp("us")), "==", np.datetime64(1000, "ns"), [True, False]),
        (pa.array([0, 1], pa.date32()), "<", dt.datetime(1970, 1, 1, 12), [True, False]),
        (pa.array([0, 1], pa.date32()), "in", [dt.datetime(1970, 1, 1, 12), dt.date(1970, 1, 2)], [False, True]),
        (pa.array([0.0, -0.0, 1.0]), "in", [-0.0], [True, True, False]),
        (pa.array([0.0, -0.0, 1.0], pa.float32()), "not in", [0, 5], [False, False, True]),
        (pa.array([decimal.Decimal("1.20")]), "<", 1.205, [True]),
        (pa.array([decimal.Decimal("1.20")]), "==", decimal.Decimal("1.205"), [False]),
    ],
    ids=str,
)  # fmt: skip
def test_values_are_not_cut_to_the_columns_type(column, op, value, kept):
    """A value between two that the column can hold is equal to neither, and lies between them."""
    table = pa.table({"c": column})
    assert read_filter([("c", op, value)], table.schema).mask(table).to_pylist() == kept


NUMBERS = st.integers(-3, 3)
COLUMNS = {
    "i8": (pa.int8(), NUMBERS),
    "i64": (pa.int64(), NUMBERS | st.sampled_from([2**53, 2**53 + 1, -(2**63), 2**63 - 1])),
    "u64": (pa.uint64(), st.sampled_from([0, 1, 2, 2**63, 2**64 - 1])),
    "f32": (pa.float32(), st.sampled_from([-1.5, -0.0, 0.0, 0.1, 1.0, float("nan"), float("inf")])),
    "f64": (pa.float64(), st.sampled_from([-1.5, -0.0, 0.0, 0.1, 0.5, 2.0, float("nan"), float("inf")])),
    "s": (pa.string(), st.sampled_from(["", "a", "ab", "b", "é", "\U0001f600" * 40])),
    "cat": (pa.dictionary(pa.int8(), pa.string()), st.sampled_from(["a", "b", "c"])),
    "bin": (pa.binary(), st.sampled_from([b"", b"a", b"\xff", b"\x00"])),
    "b": (pa.bool_(), st.booleans()),
    "d": (pa.date32(), st.sampled_from([dt.date(2020, 1, d) for d in (1, 2, 3)])),
    "t": (pa.timestamp("us"), st.sampled_from([dt.datetime(2020, 1, 1, h) for h in (1, 2, 3)])),
    "ns": (pa.timestamp("ns"), st.sampled_from([0, 1, 1000, 1001])),
    "dec": (pa.decimal128(9, 2), st.sampled_from([decimal.Decimal(n) for n in ("-1.10", "0.00", "1.20")])),
}  # fmt: skip
OPS = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in"])


def value_of(name, draw):
    if name == "ns":
        return pa.scalar(draw(COLUMNS[name][1]), pa.timestamp("ns")).as_py()
    if name in ("i8", "i64") and draw(st.booleans()):
        return draw(st.sampled_from([-0.5, 0.0, 1.0, float(2**53)]))
    return draw(COLUMNS[name][1])


@st.composite
def cases(draw):
    names = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=2, unique=True))
    rows = draw(st.integers(1, 12))
    arrays = {}
    for name in names:
        kind, values = COLUMNS[name]
        arrays[name] = pa.array(
            draw(st.lists(values | st.none(), min_size=rows, max_size=rows)), kind,
        )  # fmt: skip
    table = pa.table(arrays).sort_by(names[0]) if draw(st.booleans()) and names[0] != "cat" else pa.table(arrays)
    terms = []
    for _ in range(draw(st.integers(1, 2))):
        conjunction = []
        for _ in range(draw(st.integers(1, 2))):
            name, op = draw(st.sampled_from(names)), draw(OPS)
            if op.endswith("in"):
                value = [v for v in (value_of(name, draw) for _ in range(draw(st.integers(0, 3)))) if v == v]  # noqa: PLR0124
                if name in ("i8", "i64"):
                    value = [v for v in value if isinstance(v, int) and abs(v) < 100]
            else:
                value = value_of(name, draw)
            conjunction.append((name, op, value))
        terms.append(conjunction)
    return table, terms, draw(st.integers(1, 4))


def expression_of(terms):
    """The same by Arrow alone, as its own filters are written."""
    return pq.filters_to_expression(terms)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_statistics_never_change_the_answer(case):
    """NONE is said only where no row passes and ALL only where every one does, for terms and for an expression."""
    table, terms, group = case
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=group)
    file = pq.ParquetFile(pa.BufferReader(sink.getvalue()))
    meta = file.metadata
    bounds = [
        {
            name: bounds_of(meta.row_group(g).column(c), meta.schema.column(c).physical_type)
            for c, name in enumerate(table.column_names)
        }
        for g in range(meta.num_row_groups)
    ]
    filters = [read_filter(terms, table.schema)]
    filters.append(read_filter(filters[0].expression, table.schema))
    filters.append(read_filter(~filters[0].expression, table.schema))
    for each in filters:
        verdicts = each.judge(bounds, table.schema).tolist()
        for g, verdict in enumerate(verdicts):
            try:
                mask = each.mask(file.read_row_group(g))
            except pa.ArrowInvalid:  # integers beyond what they are compared with
                continue
            passing = pc.sum(mask).as_py() or 0
            assert verdict in (NONE, SOME, ALL)
            assert verdict != NONE or passing == 0, (terms, file.read_row_group(g))
            assert verdict != ALL or passing == len(mask), (terms, file.read_row_group(g))


@pytest.mark.parametrize(
    ("filters", "verdicts"),
    [
        ([("n", "<", 10)], [ALL, NONE, NONE]),
        ([("n", ">=", 5), ("n", "<", 15)], [SOME, SOME, NONE]),
        ([("n", "in", [3, 25])], [SOME, NONE, SOME]),
        ([[("n", "<", 10)], [("n", ">=", 20)]], [ALL, NONE, ALL]),
        ([("x", ">", 1.5)], [NONE, NONE, SOME]),
        (F("n") < 10, [SOME, NONE, NONE]),
        ((F("x") > 1.5) & (F("n") > 0), [NONE, NONE, SOME]),
        (~(F("x") <= 1.5), [SOME, SOME, SOME]),
    ],
)
def test_statistics_do_prune(filters, verdicts):
    """Row groups that a filter cannot touch, or takes whole, are known without reading them."""
    table = pa.table({"n": range(30), "x": np.repeat([0.0, 1.0, 2.0], 10)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=10)
    meta = pq.read_metadata(pa.BufferReader(sink.getvalue()))
    bounds = [
        {n: bounds_of(meta.row_group(g).column(c), meta.schema.column(c).physical_type) for c, n in enumerate("nx")}
        for g in range(3)
    ]
    assert read_filter(filters, table.schema).judge(bounds, table.schema).tolist() == verdicts


def test_a_column_that_is_not_wanted_may_be_filtered_by(tmp_path):
    pq.write_table(pa.table({"a": range(10), "b": range(10)}), tmp_path / "x.parquet")
    dataset = open_dataset(tmp_path, columns=["a"], filters=[("b", ">", 6)])
    assert dataset.take(range(3)).to_pydict() == {"a": [7, 8, 9]}
