"""Reading the other side of a join: every format by its content, and what is broken refused by name."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.errors import ConfigError, StepError
from datapipe.steps.join_right import KEY, NEWEST, Wanted, expanded, one_each, right_batches

WANTED = Wanted(on=("u",), columns=(("new", "w"),))


def rows(path, wanted=WANTED):
    table = pa.concat_tables(right_batches(str(path), wanted))
    return list(zip(table[KEY].to_pylist(), table["new"].to_pylist(), strict=True))


def ipc(table, make):
    sink = pa.BufferOutputStream()
    with make(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def parquet(table):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


TABLE = pa.table({"u": pa.array(["a", None, "b"]).dictionary_encode(), "w": ["x", "y", "z"], "more": [1, 2, 3]})
EXPECTED = [("a", "x"), ("b", "z")]


@pytest.mark.parametrize(
    "data",
    [
        b"u,w,more\na,x,1\n,y,2\nb,z,3\n",
        b"\xef\xbb\xbfmore\tw\tu\r\n1\tx\ta\r\n2\ty\t\r\n3\tz\tb\r\n",
        gzip.compress(b"u,w\na,x\n,y\nb,z\n", mtime=0),
        b'{"u": "a", "w": "x"}\n\n{"w": "y"}\n{"u": "b", "w": "z", "n": [1]}\n',
        gzip.compress(b'\n {"u": "a", "w": "x"}\n{"u": "b", "w": "z"}', mtime=0),
        parquet(TABLE),
        ipc(TABLE, pa.ipc.new_file),
        ipc(TABLE, pa.ipc.new_stream),
        ipc(TABLE.set_column(1, "w", TABLE["w"].cast(pa.string_view())), pa.ipc.new_file),
    ],
)
def test_every_format_by_its_content(tmp_path, data):
    """Whatever the name: a record without a key is nobody's, other columns are not read."""
    path = tmp_path / "0123.resource"
    path.write_bytes(data)
    assert rows(path) == EXPECTED


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "Empty"),
        (b"u,v\na,1\n", "no column 'w'"),
        (b"u,w,w\na,1,2\n", "two columns 'w'"),
        (b"u,w\na\n", "Expected 2 columns"),
        (b"u,w\na,\xff\n", "UTF8"),
        (b'{"u": "a"\n', "line 1: not JSON"),
        (b'{"u": "a"}\n[1]\n', "line 2: no object"),
        (b'{"u": "a", "w": ' + b"[" * 100_000, "line 1: not JSON"),
        (b'{"u": "\\ud800", "w": "1"}\n', "cannot be read"),
        (gzip.compress(b"u,w\n" + b"a,1\n" * 999, mtime=0)[:30], "cannot be read"),
        (b"PAR1" + bytes(64), "cannot be read"),
        (b"ARROW1\0\0" + bytes(64), "cannot be read"),
        (b"\xff\xff\xff\xff\x10\0\0\0" + b"\1" * 64, "cannot be read"),
        (parquet(TABLE)[:-9], "cannot be read"),
        (parquet(pa.table({"u": [[1]], "w": [1]})), "has type list"),
    ],
)
def test_what_is_broken_is_said_by_name(tmp_path, data, match):
    """A file that cannot be read whole joins nothing."""
    path = tmp_path / "known.bin"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=match) as caught:
        rows(path)
    assert "known.bin" in str(caught.value)


def test_folders(tmp_path):
    """Of a folder the data files, by name; of a dataset the shards that its manifest names, and none outside of it."""
    for name in ("b.csv", "a.parquet", ".hidden.csv", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.rpartition("/")[2] for path in expanded([str(tmp_path), "x.csv"])] == ["a.parquet", "b.csv", "x.csv"]
    (tmp_path / "manifest.json").write_text(json.dumps({"shards": [{"path": "b.csv"}]}))
    assert [path.rpartition("/")[2] for path in expanded([str(tmp_path)])] == ["b.csv"]
    for bad in ('{"shards": [{"path": "../x"}]}', '{"shards": 3}', "[]", "{"):
        (tmp_path / "manifest.json").write_text(bad)
        with pytest.raises(ConfigError):
            expanded([str(tmp_path)])


def test_one_record_a_key():
    """First, last and newest, nulls the oldest; more than one is an error that names the key."""
    table = pa.table({KEY: ["a", "b", "a", "a"], "new": [1, 2, 3, 4], NEWEST: [5, 1, 9, None]})
    assert one_each(table, "first")["new"].to_pylist() == [1, 2]
    assert one_each(table, "last")["new"].to_pylist() == [2, 4]
    assert one_each(table, "newest")["new"].to_pylist() == [2, 3]
    assert one_each(table.slice(1, 2), "error").num_rows == 2
    with pytest.raises(StepError, match=r"'a' comes 3 times"):
        one_each(table, "error")
