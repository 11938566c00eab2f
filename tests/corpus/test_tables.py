"""Tables: files read without a text column, all their columns or some, from every format that has fields."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.corpus import ReadOptions, discover, plan_splits, read_piece
from datapipe.errors import ConfigError

RECORDS = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": None, "b": ""}]


def write(folder, name):
    path = folder / name
    columns = {"a": pa.array([1, 2, None], pa.int64()), "b": ["x", "y", ""]}
    if name.endswith(".parquet"):
        pq.write_table(pa.table(columns), path)
    elif name.endswith(".arrow"):
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, pa.table(columns).schema) as writer:
            writer.write_table(pa.table(columns))
    elif name.endswith(".csv"):
        path.write_text("a,b\n1,x\n2,y\n,\n")
    elif name.endswith(".csv.gz"):
        path.write_bytes(gzip.compress(b"a,b\n1,x\n2,y\n,\n"))
    elif name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    else:
        path.write_text(json.dumps(RECORDS))
    return path


def read(folder, **options):
    settings = ReadOptions(**{"text_column": None, "columns": ("*",), **options})
    found = []
    for split in plan_splits(discover([str(folder)]).files, target_bytes=1 << 20):
        for piece in split.pieces:
            found += list(read_piece(piece, options=settings))
    return found


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "t.csv", "t.csv.gz", "t.jsonl", "t.json"])
@pytest.mark.parametrize("columns", [("*",), ("b", "a"), ("a", "c")])
def test_every_format(tmp_path, name, columns):
    """Columns as the file has them; of CSV and JSON as texts. What is lacking is null; there is no text column."""
    write(tmp_path, name)
    (batch,) = read(tmp_path, columns=columns)
    assert not batch.quarantined
    names = ["a", "b"] if columns == ("*",) else list(columns)
    assert batch.table.column_names == ["row_id", *names]
    typed = name.endswith(("parquet", "arrow"))
    csv = ".csv" in name
    expected = [1, 2, None] if typed else ["1", "2", ""] if csv else ["1", "2", None]
    assert batch.table["a"].to_pylist() == expected
    if "b" in names:
        assert batch.table["b"].to_pylist() == ["x", "y", ""]
    if "c" in names:
        assert batch.table["c"].to_pylist() == [None] * 3
    assert len(set(batch.table["row_id"].to_pylist())) == 3


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
def test_own_ids(tmp_path, name):
    """A row without its id is quarantined; the others have it, and the column is still a column."""
    write(tmp_path, name)
    (batch,) = read(tmp_path, id_column="a")
    assert batch.table["row_id"].to_pylist() == ["1", "2"]
    assert batch.table.num_columns == 3
    assert [row.reason for row in batch.quarantined] == ["missing_id"]


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_none_of_the_columns(tmp_path, name):
    """A file that has nothing of what is asked for is quarantined, and says what it has."""
    write(tmp_path, name)
    (batch,) = read(tmp_path, columns=("nothing",))
    assert [row.reason for row in batch.quarantined] == ["no_columns"]
    assert "'a', 'b'" in batch.quarantined[0].detail


def test_a_document_is_no_table(tmp_path):
    """A text file among tables is quarantined, not read as a row without values."""
    (tmp_path / "README.txt").write_text("hello")
    write(tmp_path, "t.csv")
    reasons = [row.reason for batch in read(tmp_path) for row in batch.quarantined]
    assert reasons == ["no_columns"]


def test_batches_are_bounded(tmp_path):
    """A wide row group comes in batches within the bound, each row once, in order."""
    pq.write_table(pa.table({"a": ["x" * 1000] * 5000}), tmp_path / "t.parquet")
    batches = read(tmp_path, max_batch_bytes=100_000)
    assert all(batch.table.nbytes < 200_000 for batch in batches)
    ids = [row for batch in batches for row in batch.table["row_id"].to_pylist()]
    assert [int(row.rpartition(":")[2]) for row in ids] == list(range(5000))


def test_names_that_would_clash(tmp_path):
    """With "*", a column row_id and the engine's own names are left out; the rest comes."""
    pq.write_table(pa.table({"row_id": ["mine"], "__position": [1], "text": ["t"], "a": [1]}), tmp_path / "t.parquet")
    (batch,) = read(tmp_path)
    assert batch.table.column_names == ["row_id", "text", "a"]
    assert batch.table["row_id"].to_pylist() != ["mine"]


def test_long_integers_are_exact(tmp_path):
    """An integer beyond 64 bits in JSON comes as its digits."""
    (tmp_path / "t.jsonl").write_text('{"a": 12345678901234567890123}\n')
    (batch,) = read(tmp_path)
    assert batch.table["a"].to_pylist() == ["12345678901234567890123"]


@pytest.mark.parametrize(
    "options",
    [{"columns": ()}, {"columns": ("*", "a")}, {"text_column": "text", "columns": ("*",)}, {"columns": ("row_id",)},
     {"text_column": ""}],
)  # fmt: skip
def test_refused(options):
    """A table without columns, and all of them beside some."""
    with pytest.raises(ConfigError):
        ReadOptions(**{"text_column": None, **options})
