"""Arrow's allocator is asked to give back, by the threads that decode and as often as is said."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.dataset import arrow_memory, open_dataset


class Pool:
    def __init__(self, backend_name):
        self.backend_name = backend_name
        self.asked = []

    def release_unused(self):
        self.asked.append(threading.current_thread().name)


@pytest.fixture
def pool(monkeypatch):
    pool = Pool("mimalloc")
    monkeypatch.setattr(pa, "default_memory_pool", lambda: pool)
    return pool


def on_a_thread(name, work):
    thread = threading.Thread(target=work, name=name)
    thread.start()
    thread.join()


def test_each_thread_asks_by_itself(pool):
    """Half a step twice on one thread: once asked. Half a step on each of two: not at all."""
    half = arrow_memory.STEP // 2
    on_a_thread("one", lambda: [arrow_memory.decoded(half) for _ in range(4)])
    on_a_thread("two", lambda: arrow_memory.decoded(half))
    on_a_thread("three", lambda: arrow_memory.decoded(half))
    assert pool.asked == ["one", "one"]


def test_only_the_allocator_that_wants_it_is_asked(pool):
    pool.backend_name = "jemalloc"
    on_a_thread("one", lambda: arrow_memory.decoded(arrow_memory.STEP))
    assert not pool.asked


def test_decoding_counts(pool, tmp_path, monkeypatch):
    """A row group that is decoded is counted with the bytes that it takes as a table."""
    pq.write_table(pa.table({"id": np.arange(1000)}), tmp_path / "a.parquet", row_group_size=250)
    data = open_dataset(tmp_path)
    monkeypatch.setattr(arrow_memory, "STEP", 2 * 250 * 8)
    on_a_thread("decoder", lambda: [data.fetch(group).decode() for group in range(4)])
    assert pool.asked == ["decoder", "decoder"]
