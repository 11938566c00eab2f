"""A loader over a cached dataset: the same batches as without, from the first epoch and from the cache."""

import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datapipe
from datapipe import events
from datapipe.storage import cache as cache_module


@pytest.fixture
def folder(tmp_path):
    ids = np.arange(600)
    rows = pa.table(
        {
            "tokens": pa.array((ids[:, None] * 10 + np.arange(8)).tolist(), pa.list_(pa.int32(), 8)),
            "text": [f"row {i}" for i in ids],
            "ragged": [list(range(i % 5)) for i in ids],
        }
    )
    pq.write_table(rows, tmp_path / "rows.parquet", compression="zstd", row_group_size=25)
    return tmp_path / "rows.parquet"


def batches(loader, epoch):
    loader.set_epoch(epoch)
    return [{name: np.asarray(value).tolist() for name, value in batch.items()} for batch in loader]


@pytest.mark.parametrize("content", ["decoded", "raw"])
@pytest.mark.parametrize("prefetch", [0, 4])
def test_the_same_batches_with_a_cache_and_without(tmp_path, folder, content, prefetch):
    plain = datapipe.DataLoader(datapipe.open_dataset(folder), 16, collate="numpy", prefetch=prefetch)
    cache = datapipe.Cache(tmp_path / "c", "10 MB", content=content)
    cached = datapipe.DataLoader(datapipe.open_dataset(folder, cache=cache), 16, collate="numpy", prefetch=prefetch)
    for epoch in range(3):
        assert batches(cached, epoch) == batches(plain, epoch)
    counts = cached.stats()["cache"]
    assert counts["misses"] == 24
    assert counts["hits"] >= 48  # and of the epoch ahead
    assert "cache" not in plain.stats()


def test_a_state_from_before_there_was_a_cache_goes_on(tmp_path, folder):
    """A cache is no part of the order."""
    plain = datapipe.DataLoader(datapipe.open_dataset(folder), 16, collate="numpy")
    walk = iter(plain)
    for _ in range(7):
        next(walk)
    state = plain.state_dict()
    rest = [batch["tokens"].tolist() for batch in walk]
    cached = datapipe.DataLoader(datapipe.open_dataset(folder, cache=tmp_path / "c"), 16, collate="numpy")
    cached.load_state_dict(state)
    assert [batch["tokens"].tolist() for batch in cached] == rest


def test_a_cache_that_is_too_small_changes_no_batch(tmp_path, folder):
    """Entries go while their rows are gathered from."""
    plain = datapipe.DataLoader(datapipe.open_dataset(folder), 16, collate="numpy")
    cache = datapipe.Cache(tmp_path / "c", 40_000)
    cached = datapipe.DataLoader(datapipe.open_dataset(folder, cache=cache), 16, collate="numpy")
    for epoch in range(2):
        assert batches(cached, epoch) == batches(plain, epoch)
    counts = cached.stats()["cache"]
    assert counts["evictions"] + counts["refused"] > 10


def test_spans_tell_hits_from_misses(tmp_path, folder):
    dataset = datapipe.open_dataset(folder, cache=tmp_path / "c")
    for flag in (events.MISS, events.HIT):
        recorder = events.Recorder()
        with events.recording(recorder):
            batches(datapipe.DataLoader(dataset, 16, collate="numpy", prefetch=0), 0)
        spans = recorder.spans()
        fetches = spans[spans["stage"] == recorder.stage("fetch")]
        assert len(fetches) == 24
        assert set(fetches["flags"].tolist()) == {flag}


def test_a_mixs_counts_are_those_of_its_sources(tmp_path, folder):
    caches = [datapipe.Cache(tmp_path / name, "10 MB") for name in "ab"]
    mixed = datapipe.mix(
        {name: datapipe.open_dataset(folder, cache=cache) for name, cache in zip("ab", caches, strict=True)},
        weights={"a": 0.5, "b": 0.5},
        seed=0,
    )
    loader = datapipe.DataLoader(mixed, 16, collate="numpy")
    batches(loader, 0)
    assert loader.stats()["cache"]["misses"] == sum(cache.stats()["misses"] for cache in caches) >= 48


def test_ranks_on_a_node_read_each_row_group_once(tmp_path, folder):
    """Four ranks that all read every lane in turn, epoch after epoch: one fetch for each row group."""
    caches = [datapipe.Cache(tmp_path / "c", "10 MB") for _ in range(4)]
    loaders = [
        datapipe.DataLoader(datapipe.open_dataset(folder, cache=cache), 4, rank=rank, world_size=4, collate="numpy")
        for rank, cache in enumerate(caches)
    ]
    for epoch in range(2):
        threads = [threading.Thread(target=batches, args=(loader, epoch)) for loader in loaders]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert sum(cache.stats()["misses"] for cache in caches) == 24
    assert sum(cache.stats()["hits"] for cache in caches) >= 24


def test_an_epoch_goes_on_when_the_disk_fills_up(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(cache_module, "_warned", set())
    plain = batches(datapipe.DataLoader(datapipe.open_dataset(folder), 16, collate="numpy"), 0)
    cache = datapipe.Cache(tmp_path / "c", "10 MB")
    loader = datapipe.DataLoader(datapipe.open_dataset(folder, cache=cache), 16, collate="numpy", prefetch=0)
    written = []

    def full(*_):
        written.append(1)
        if len(written) > 5:
            raise OSError(28, "No space left on device")
        return real(*_)

    real = cache_module.write_payload
    monkeypatch.setattr(cache_module, "write_payload", full)
    with pytest.warns(RuntimeWarning, match="No space left"):
        assert batches(loader, 0) == plain
    assert loader.stats()["cache"]["misses"] == 24
    assert len(written) == 6
