"""Datasets with a cache: the same rows, fewer reads, and nothing of another file's."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datapipe
from datapipe.dataset import LedgerEntry, build_manifest, open_dataset, publish, write_shard
from datapipe.dataset.arrow_memory import shared_pool
from datapipe.dataset.cached_store import CachedStore
from datapipe.errors import ConfigError, IntegrityError
from datapipe.events import HIT, MISS
from datapipe.storage import open_store
from datapipe.storage.cache import Cache
from datapipe.storage.remote_entry import origin_of
from datapipe.storage.store import Store

KINDS = ["decoded", "raw"]


def table(n=40, start=0):
    ids = np.arange(start, start + n)
    return pa.table(
        {
            "id": ids,
            "text": [f"document {i} " * (i % 7) for i in ids],
            "blob": pa.array([bytes([i % 256]) * (i % 5) for i in ids], pa.large_binary()),
            "maybe": pa.array([None if i % 3 == 0 else float(i) for i in ids]),
            "tokens": pa.array([[i, i + 1] for i in ids], pa.list_(pa.int32(), 2)),
            "ragged": [list(range(i % 4)) for i in ids],
            "kind": pa.array([f"k{i % 3}" for i in ids]).dictionary_encode(),
            "deep": [{"a": int(i), "b": [str(i)]} for i in ids],
            "when": pa.array(ids, pa.timestamp("us", "UTC")),
            "price": pa.array([None] * n, pa.decimal128(9, 2)),
            "flag": ids % 2 == 0,
        }
    )


def write(folder, kind, n=40, start=0, name="a"):
    folder.mkdir(exist_ok=True)
    rows = table(n, start)
    if kind == "parquet":
        pq.write_table(rows, folder / f"{name}.parquet", compression="zstd", row_group_size=10)
        return
    options = pa.ipc.IpcWriteOptions(compression="lz4", unify_dictionaries=True)
    with pa.ipc.new_file(folder / f"{name}.arrow", rows.schema, options=options) as writer:
        writer.write_table(rows, max_chunksize=10)


class Counting(Store):
    """A store that says it is remote, and what it was asked for."""

    is_remote = True

    def __init__(self, inner):
        self.inner, self.url, self.asked = inner, inner.url, []

    def list(self, prefix=""):
        self.asked.append("list")
        return self.inner.list(prefix)

    def info(self, path):
        self.asked.append("info " + path)
        return self.inner.info(path)

    def read(self, path, start=0, end=None):
        self.asked.append("read " + path)
        return self.inner.read(path, start, end)

    def open(self, path):
        self.asked.append("open " + path)
        return self.inner.open(path)

    def put(self, path, data):
        return self.inner.put(path, data)

    def put_file(self, path, source):
        return self.inner.put_file(path, source)

    def delete(self, path):
        self.inner.delete(path)

    def read_ranges(self, path, ranges, pinned=None):
        self.asked.append("ranges " + path)
        return self.inner.read_ranges(path, ranges, pinned)

    def tail(self, path, size):
        self.asked.append("tail " + path)
        return self.inner.tail(path, size)

    def taken(self):
        asked, self.asked = self.asked, []
        return asked


def publish_rows(folder, start):
    """A dataset with a manifest, of ten rows; its fingerprint."""
    schema = pa.schema([pa.field("row_id", pa.string(), nullable=False)])
    store = open_store(str(folder))
    rows = pa.table({"row_id": [f"doc:{i}" for i in range(start, start + 10)]}, schema=schema)
    shard = write_shard(store, f"data/part-{start:05d}", [rows], schema=schema, row_group_rows=5, documents=10)
    shards = (shard,)
    ledger = (LedgerEntry(split=0, documents_in=10, out=10, shard=shard.path),)
    manifest = build_manifest(schema, shards, ledger=ledger, recipe={"name": "t", "steps": []})
    publish(store, manifest)
    return manifest.fingerprint


@pytest.fixture
def remote(monkeypatch):
    """Every dataset opened from here on lies on a store that counts; returns those that were opened."""
    made = []

    def open_counting(url, *, storage_options=None):
        made.append(Counting(open_store(url, storage_options=storage_options)))
        return made[-1]

    monkeypatch.setattr("datapipe.dataset.reader.open_store", open_counting)
    return made


def rows_of(dataset):
    return pa.concat_tables([dataset.fetch(b).decode() for b in range(len(dataset.index))])


@pytest.mark.parametrize("content", KINDS)
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_the_same_rows_from_the_cache_as_from_the_dataset(tmp_path, kind, content):
    """Every type, every value, the schema's metadata included; a hit is told from a miss."""
    write(tmp_path / "ds", kind)
    cache = Cache(tmp_path / "c", "10 MB", content=content)
    plain = open_dataset(tmp_path / "ds")
    for expected in ({0, MISS} if content == "raw" else {MISS}), ({0, HIT} if content == "raw" else {HIT}):
        dataset = open_dataset(tmp_path / "ds", cache=cache)
        assert {dataset.fetch(b).flag for b in range(4)} <= expected
        for b in range(4):
            assert dataset.fetch(b).decode().equals(plain.fetch(b).decode(), check_metadata=True)
        assert dataset.take([33, 2, 2]).equals(plain.take([33, 2, 2]))
        assert dataset.fingerprint == plain.fingerprint


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("content", KINDS)
def test_a_cached_epoch_asks_the_store_for_nothing(tmp_path, remote, kind, content):
    """A folder without a manifest: opening it again lists it (which checks the etags), and that is all."""
    write(tmp_path / "ds", kind)
    write(tmp_path / "ds", kind, 25, 1000, "b")
    cache = Cache(tmp_path / "c", "10 MB", content=content)
    first = rows_of(open_dataset(tmp_path / "ds", cache=cache))
    assert len(remote[0].taken()) > 2
    again = open_dataset(tmp_path / "ds", cache=Cache(tmp_path / "c", "10 MB", content=content))
    assert remote[1].taken() == ["info manifest.json", "list"]
    assert rows_of(again).equals(first)
    assert remote[1].taken() == []
    assert first["id"].to_pylist() == [*range(40), *range(1000, 1025)]


@pytest.mark.parametrize("content", KINDS)
def test_of_a_dataset_with_a_manifest_only_that_is_read_again(made, tmp_path, remote, content):
    folder, _ = made
    first = rows_of(open_dataset(folder, cache=Cache(tmp_path / "c", "10 MB", content=content)))
    again = open_dataset(folder, cache=Cache(tmp_path / "c", "10 MB", content=content))
    assert rows_of(again).equals(first)
    assert {asked.split()[1] for asked in remote[1].taken()} == {"manifest.json"}


@pytest.mark.parametrize("content", KINDS)
def test_a_file_that_was_replaced_is_another_entry(tmp_path, content):
    """The same name, size and number of rows: its etag tells."""
    cache = Cache(tmp_path / "c", "10 MB", content=content)
    for start in (0, 500, 0):
        write(tmp_path / "ds", "parquet", start=start)
        dataset = open_dataset(tmp_path / "ds", columns=["id"], cache=cache)
        assert rows_of(dataset)["id"].to_pylist() == list(range(start, start + 40))


@pytest.mark.parametrize("content", KINDS)
def test_a_file_replaced_while_open_does_not_get_into_the_cache(tmp_path, content):
    """What is read then is an error, or the new file's; what is kept under the old one's name is the old one's."""
    write(tmp_path / "ds", "parquet")
    dataset = open_dataset(tmp_path / "ds", columns=["id"], cache=Cache(tmp_path / "c", "10 MB", content=content))
    old = dataset.fetch(0).decode()
    write(tmp_path / "new", "parquet", start=500)
    (tmp_path / "new/a.parquet").replace(tmp_path / "ds/a.parquet")
    with pytest.raises(IntegrityError):
        dataset.fetch(1).decode()
    stale = pickle.loads(pickle.dumps(dataset))  # its footers are read anew, from the new file
    assert stale.fetch(1).decode()["id"].to_pylist() == list(range(510, 520))
    assert len(list((tmp_path / "c/entries").iterdir())) == 1
    if content == "decoded":
        assert stale.fetch(0).decode().equals(old)


def test_a_manifest_that_claims_anothers_checksums_does_not_get_into_its_entries(tmp_path):
    """Checksums are not looked at when rows are read: a dataset that lies about its own must not poison another's."""
    cache = Cache(tmp_path / "c", "10 MB")
    honest = publish_rows(tmp_path / "honest", 100)
    publish_rows(tmp_path / "liar", 900)
    (theirs,), (mine,) = ((tmp_path / name / "data").iterdir() for name in ("honest", "liar"))
    mine.rename(mine.with_name(theirs.name))
    (tmp_path / "liar/manifest.json").write_text((tmp_path / "honest/manifest.json").read_text())
    lied = open_dataset(tmp_path / "liar", cache=cache)
    assert lied.fingerprint == honest
    assert rows_of(lied)["row_id"][0].as_py() == "doc:900"
    assert rows_of(open_dataset(tmp_path / "honest", cache=cache))["row_id"][0].as_py() == "doc:100"


@pytest.mark.parametrize("content", KINDS)
def test_content_that_was_put_there_again_is_read_on(made, tmp_path, remote, content):
    """A shard uploaded anew has another etag and the same checksum: the kept footer's etag is out of date, once."""
    folder, manifest = made
    cache = Cache(tmp_path / "c", "10 MB", content=content)
    first = open_dataset(folder, cache=cache)
    first.fetch(0).decode()
    shard = folder / manifest.shards[0].path
    data = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(data)
    again = open_dataset(folder, cache=cache)
    assert again.fetch(1).decode().equals(open_dataset(folder).fetch(1).decode())
    third = open_dataset(folder, cache=cache)
    assert third.fetch(2).decode().num_rows == 2


def test_columns_in_another_order_are_the_same_entry(tmp_path):
    write(tmp_path / "ds", "parquet")
    cache = Cache(tmp_path / "c", "10 MB")
    open_dataset(tmp_path / "ds", columns=["id", "text"], cache=cache).fetch(0).decode()
    turned = open_dataset(tmp_path / "ds", columns=["text", "id"], cache=cache).fetch(0)
    assert turned.flag == HIT
    assert turned.decode().column_names == ["text", "id"]
    assert open_dataset(tmp_path / "ds", columns=["id"], cache=cache).fetch(0).flag == MISS


def test_rows_from_the_cache_are_mapped_not_copied(tmp_path):
    write(tmp_path / "ds", "parquet")
    dataset = open_dataset(tmp_path / "ds", columns=["id"], cache=Cache(tmp_path / "c", "10 MB"))
    dataset.fetch(0).decode()
    before = pa.total_allocated_bytes(), shared_pool().bytes_allocated()
    column = dataset.fetch(0).decode()["id"].chunk(0)
    assert (pa.total_allocated_bytes(), shared_pool().bytes_allocated()) == before
    assert column.to_pylist() == list(range(10))


def test_rows_stay_valid_when_their_entry_goes(tmp_path):
    write(tmp_path / "ds", "parquet")
    cache = Cache(tmp_path / "c", "10 MB")
    dataset = open_dataset(tmp_path / "ds", cache=cache)
    rows_of(dataset)
    held = dataset.fetch(0).decode()
    for entry in (tmp_path / "c/entries").iterdir():
        entry.unlink()
    assert held.equals(open_dataset(tmp_path / "ds").fetch(0).decode())


def test_an_entry_that_arrow_cannot_read_is_read_from_the_dataset(tmp_path):
    """One that is whole by its checksum and no record batch (another Arrow's), or of other rows."""
    write(tmp_path / "ds", "parquet")
    cache = Cache(tmp_path / "c", "10 MB")
    dataset = open_dataset(tmp_path / "ds", columns=["id"], cache=cache)
    dataset.fetch(0).decode()
    (entry,) = (tmp_path / "c/entries").iterdir()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema([("id", pa.int64())])) as writer:
        writer.write_table(pa.table({"id": [1]}))
    for other in (b"not a stream", sink.getvalue().to_pybytes()):
        cache.discard(entry.name)
        cache.lookup(entry.name).store(len(other), lambda file, other=other: file.write(other))
        assert dataset.fetch(0).decode()["id"].to_pylist() == list(range(10))
        assert not entry.exists()


def test_a_read_that_fails_leaves_the_right_to_it(tmp_path):
    write(tmp_path / "ds", "parquet")
    dataset = open_dataset(tmp_path / "ds", cache=Cache(tmp_path / "c", "10 MB"))
    data = (tmp_path / "ds/a.parquet").read_bytes()
    (tmp_path / "ds/a.parquet").write_bytes(b"\0" * len(data))
    for _ in range(2):
        with pytest.raises(IntegrityError):
            dataset.fetch(0).decode()
    assert list((tmp_path / "c/entries").iterdir()) == []


def test_filters_and_other_columns_go_through_the_cache_too(tmp_path, remote):
    write(tmp_path / "ds", "parquet")
    want = [("flag", "==", True), ("id", ">", 12)]
    ids = list(range(14, 40, 2))
    for asks in (True, False):
        cache = Cache(tmp_path / "c", "10 MB")
        dataset = open_dataset(tmp_path / "ds", ["id"], filters=want, cache=cache)
        remote[-1].taken()
        assert rows_of(dataset)["id"].to_pylist() == ids
        assert dataset.fetch(1).flag == HIT
        assert bool(remote[-1].taken()) is asks
        assert dataset.select(["text"]).cache is cache


def test_newer_snapshots_have_the_cache_and_their_own_versions(tmp_path):
    publish_rows(tmp_path / "ds", 0)
    cache = Cache(tmp_path / "c", "10 MB")
    dataset = open_dataset(tmp_path / "ds", cache=cache)
    rows_of(dataset)
    publish_rows(tmp_path / "ds", 900)
    newer = dataset.newer()
    assert newer.cache is cache
    assert rows_of(newer)["row_id"][0].as_py() == "doc:900"


def test_a_dataset_with_a_cache_is_picklable(tmp_path):
    write(tmp_path / "ds", "parquet")
    dataset = open_dataset(tmp_path / "ds", cache=Cache(tmp_path / "c", "10 MB"))
    rows = rows_of(dataset)
    other = pickle.loads(pickle.dumps(dataset))
    assert other.fetch(0).flag == HIT
    assert rows_of(other).equals(rows)


def test_a_path_will_do_and_nothing_else(tmp_path):
    write(tmp_path / "ds", "parquet")
    dataset = datapipe.open_dataset(tmp_path / "ds", cache=str(tmp_path / "c"))
    assert dataset.cache.path == str(tmp_path / "c")
    assert datapipe.open_dataset(tmp_path / "ds").cache is None
    with pytest.raises(ConfigError, match="cache=12"):
        datapipe.open_dataset(tmp_path / "ds", cache=12)


def test_a_store_that_tells_no_versions_is_not_cached(tmp_path):
    write(tmp_path / "ds", "parquet")
    store = CachedStore(open_store(str(tmp_path / "ds")), Cache(tmp_path / "c", "1 MB"), {}, all_ranges=True)
    entry = store.info("a.parquet")
    assert bytes(store.read_ranges("a.parquet", [(0, 4)], entry)[0]) == b"PAR1"
    assert store.cache.stats()["misses"] == 0


def test_the_same_bucket_on_another_server_is_another_place():
    """Etags and paths may be equal there."""
    places = [
        origin_of("s3://b/p", options)
        for options in ({}, {"endpoint_url": "http://a"}, {"client_kwargs": {"endpoint_url": "http://b"}})
    ]
    assert len(set(places)) == 3
    assert origin_of("https://h/p?sig=1", {}) == origin_of("https://h/p?sig=2", {})


def test_paths_and_columns_get_into_no_name(tmp_path):
    """A shard's path and a column's name may be anything."""
    rows = pa.table({"../../../x": [1, 2], "a\0b": [3, 4]})
    (tmp_path / "ds").mkdir()
    pq.write_table(rows, tmp_path / "ds" / "..evil -rf.parquet".lstrip("."))
    dataset = open_dataset(tmp_path / "ds", cache=Cache(tmp_path / "c", "1 MB"))
    assert rows_of(dataset).equals(rows)
    assert all(len(p.name) == 40 for p in Path(tmp_path / "c/entries").iterdir())
