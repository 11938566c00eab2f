"""Rows files: the rows that went in, in order; refused where they would not fit together."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import IntegrityError, SchemaError
from datapipe.preprocess.rows_file import RowsWriter, conform, read_rows
from datapipe.storage import open_store


def write(path, tables):
    with RowsWriter(str(path)) as writer:
        for table in tables:
            writer.write(table)
    return writer.rows


@given(st.lists(st.lists(st.integers(0, 99), max_size=5), max_size=5))
def test_rows_come_back_in_order(tmp_path_factory, batches):
    """Whatever the batches; empty ones leave no trace."""
    folder = tmp_path_factory.mktemp("rows")
    count = write(folder / "x.rows", [pa.table({"a": pa.array(b, pa.int64())}) for b in batches])
    assert count == sum(map(len, batches))
    if count:
        got = [table.column("a").to_pylist() for table in read_rows(open_store(str(folder)), "x.rows")]
        assert got == [b for b in batches if b]


def test_columns_are_put_in_one_order(tmp_path):
    """The first table's columns hold; others are reordered and cast, never silently cut."""
    first = pa.table({"a": pa.array([1], pa.int64()), "b": ["x"]})
    write(tmp_path / "x.rows", [first, pa.table({"b": ["y"], "a": pa.array([2], pa.int32())})])
    assert [t.to_pydict() for t in read_rows(open_store(str(tmp_path)), "x.rows")] == [
        {"a": [1], "b": ["x"]},
        {"a": [2], "b": ["y"]},
    ]
    with pytest.raises(SchemaError, match="column 'c'"):
        conform(pa.table({"a": [1], "b": ["x"], "c": [0]}), first.schema)
    with pytest.raises(SchemaError, match="another type"):
        conform(pa.table({"a": ["no number"], "b": ["x"]}), first.schema)


def test_columns_and_batches_can_be_chosen(tmp_path):
    """Only the wanted columns are given, from the wanted batch on."""
    write(tmp_path / "x.rows", [pa.table({"a": [i], "b": ["x" * 9], "c": [str(i)]}) for i in range(3)])
    store = open_store(str(tmp_path))
    assert [t.to_pydict() for t in read_rows(store, "x.rows", ["c", "a"], first=1)] == [
        {"a": [1], "c": ["1"]},
        {"a": [2], "c": ["2"]},
    ]


@pytest.mark.parametrize("keep", [0, 10, 300, -1])
def test_a_cut_file_raises(tmp_path, keep):
    """A file cut anywhere is an IntegrityError, not fewer rows."""
    write(tmp_path / "x.rows", [pa.table({"a": list(range(1000))})])
    data = (tmp_path / "x.rows").read_bytes()
    (tmp_path / "x.rows").write_bytes(data[:keep])
    with pytest.raises(IntegrityError):
        list(read_rows(open_store(str(tmp_path)), "x.rows"))


@pytest.mark.parametrize(
    ("first", "then", "kept"),
    [
        (pa.array([7]), pa.array(["8"]), True),
        (pa.array([7]), pa.array(["007"]), False),
        (pa.array([1.5], pa.float32()), pa.array([2.5, float("nan"), None]), True),
        (pa.array([1.5], pa.float32()), pa.array([0.1]), False),
        (pa.array([0.5]), pa.array(["0.50000000000000000001"]), False),
        (pa.array(["x"]), pa.array(["y"], pa.large_string()), True),
        (pa.array(["x"]), pa.array([7]), True),
        (pa.array([7]), pa.nulls(2), True),
        (pa.array(["x"]), pa.array(["y", "y"]).dictionary_encode(), True),
    ],
)
def test_a_column_of_another_type_is_cast_only_without_loss(first, then, kept):
    """A number that is rounded, or an id that loses its zeros, is an error that names the column."""
    schema = pa.table({"x": first}).schema
    if kept:
        assert conform(pa.table({"x": then}), schema).schema == schema
    else:
        with pytest.raises(SchemaError, match="'x' changes as it is cast"):
            conform(pa.table({"x": then}), schema)
