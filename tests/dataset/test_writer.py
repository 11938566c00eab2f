"""Writing: the same rows give the same bytes, and what is written opens everywhere."""

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.dataset import publish, sweep, write_shard
from datapipe.errors import NoSpaceError
from datapipe.storage import open_store

SCHEMA = pa.schema([("x", pa.int64()), ("n_tokens", pa.int32())])


def table(n):
    return pa.table({"x": range(n), "n_tokens": pa.array(range(n), pa.int32())}, schema=SCHEMA)


@pytest.mark.parametrize("format", ["parquet", "arrow"])
@given(cuts=st.lists(st.integers(0, 20), max_size=5), rows=st.integers(1, 7))
def test_the_cut_of_the_input_does_not_show(tmp_path_factory, format, cuts, rows):
    """Any cut of the same rows into tables gives the same file, under the same name."""
    folder = tmp_path_factory.mktemp("w")
    whole = table(20)
    edges = [0, *sorted(cuts), 20]
    parts = [whole.slice(a, b - a) for a, b in zip(edges, edges[1:], strict=False)]
    entries = []
    for name, tables in (("a", [whole]), ("b", parts)):
        store = open_store(str(folder / name))
        entry = write_shard(store, "data/p", tables, schema=SCHEMA, row_group_rows=rows, format=format)
        entries.append((entry, (folder / name / entry.path).read_bytes()))
    assert entries[0] == entries[1]
    groups = entries[0][0].row_groups
    assert sum(groups.rows) == 20
    assert set(groups.rows[:-1]) <= {rows}
    assert sum(groups.tokens) == sum(range(20))


def test_no_rows_give_no_file(tmp_path):
    store = open_store(str(tmp_path))
    assert write_shard(store, "data/p", [table(0)], schema=SCHEMA, row_group_rows=4) is None
    assert list(store.list()) == []


def test_the_name_carries_the_checksum(tmp_path):
    store = open_store(str(tmp_path))
    entry = write_shard(store, "data/part-00000", [table(5)], schema=SCHEMA, row_group_rows=4)
    assert entry.path == f"data/part-00000-{entry.checksum.value[:8]}.parquet"
    assert entry.bytes == (tmp_path / entry.path).stat().st_size


def test_other_tools_open_the_shards(made):
    """Polars, DuckDB and Hugging Face datasets read the files as they are."""
    folder, manifest = made
    paths = [str(folder / s.path) for s in manifest.shards]
    ids = [f"doc:{i}" for i in range(17)]
    if manifest.shards[0].format == "arrow":
        assert pl.concat([pl.read_ipc(p) for p in paths])["row_id"].to_list() == ids
        return
    import datasets
    import duckdb

    assert pl.read_parquet(paths)["row_id"].to_list() == ids
    assert pl.read_parquet(paths)["tokens"].to_list()[3] == [3, 4, 5, 6]
    found = duckdb.sql(f"select row_id, tokens[1] from read_parquet({paths!r}) order by tokens[1]").fetchall()
    assert found == [(f"doc:{i}", i) for i in range(17)]
    hf = datasets.load_dataset("parquet", data_files=paths, split="train", cache_dir=str(folder / "hf"))
    assert list(hf["row_id"]) == ids
    assert hf[3]["tokens"] == [3, 4, 5, 6]


def test_a_full_disk_leaves_nothing_visible(tmp_path, monkeypatch):
    """No space while a shard is put: an error of ours, and the store holds no part of it."""
    store = open_store(str(tmp_path / "out"))
    write_shard(store, "data/a", [table(5)], schema=SCHEMA, row_group_rows=4)
    before = list(store.list())

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(NoSpaceError):
        write_shard(store, "data/b", [table(6)], schema=SCHEMA, row_group_rows=4)
    monkeypatch.undo()
    assert list(store.list()) == before


def test_sweep_removes_only_what_the_manifest_does_not_list(made):
    folder, manifest = made
    store = open_store(str(folder))
    stray = folder / "data" / "part-00000-00000000.parquet"
    stray.write_bytes(b"old")
    (folder / "data" / "README.md").write_text("somebody's notes")
    assert sweep(store, manifest) == ["data/part-00000-00000000.parquet"]
    assert not stray.exists()
    assert (folder / "data" / "README.md").exists()
    assert all((folder / s.path).exists() for s in manifest.shards)


def test_publishing_again_replaces_the_manifest_whole(made):
    folder, manifest = made
    before = (folder / "manifest.json").read_bytes()
    publish(open_store(str(folder)), manifest)
    assert (folder / "manifest.json").read_bytes() == before
    assert pq.read_schema(folder / manifest.shards[0].path) if manifest.shards[0].format == "parquet" else True
