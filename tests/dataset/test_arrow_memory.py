"""Row groups are decoded into memory that is kept a while; of mimalloc the threads that decode ask it back."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.dataset import arrow_memory, fetch, open_dataset


class Pool:
    def __init__(self, backend_name):
        self.backend_name = backend_name
        self.asked = []

    def release_unused(self):
        self.asked.append(threading.current_thread().name)


@pytest.fixture
def pool(monkeypatch):
    pool = Pool("mimalloc")
    monkeypatch.setattr(arrow_memory, "decoding_pool", lambda: pool)
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


@pytest.mark.parametrize(
    ("default", "built", "wanted"),
    [
        ("mimalloc", ["mimalloc", "jemalloc", "system"], "jemalloc"),
        ("mimalloc", ["mimalloc", "system"], "mimalloc"),  # a wheel without it
        ("jemalloc", ["jemalloc", "system"], "jemalloc"),  # asked for by the user, who has its decay in hand
    ],
)
def test_memory_is_jemallocs_where_there_is_one(monkeypatch, default, built, wanted):
    """Its decay is set unless it is what all of Arrow uses."""
    decays = []
    monkeypatch.setattr(pa, "default_memory_pool", lambda: Pool(default))
    monkeypatch.setattr(pa, "supported_memory_backends", lambda: built)
    monkeypatch.setattr(pa, "jemalloc_memory_pool", lambda: Pool("jemalloc"))
    monkeypatch.setattr(pa, "jemalloc_set_decay_ms", decays.append)
    monkeypatch.setattr(pa, "allocate_buffer", lambda size, memory_pool: None)
    assert arrow_memory.shared_pool.__wrapped__().backend_name == wanted
    assert decays == ([arrow_memory.DECAY_MS] if wanted != default else [])


def test_a_row_group_lies_in_the_memory_of_its_thread(tmp_path):
    """While its table lives its bytes are counted in that pool; gone with it, they are the pool's to give again."""
    pq.write_table(pa.table({"id": np.arange(100_000)}), tmp_path / "a.parquet")
    group, held = open_dataset(tmp_path).fetch(0), []

    def decode():
        pool = arrow_memory.decoding_pool()
        before = pool.bytes_allocated()
        table = group.decode()
        held.append((pool, pool.bytes_allocated() - before))
        del table
        held.append((pool, pool.bytes_allocated() - before))

    decode()
    on_a_thread("decoder", decode)
    assert [pool.backend_name for pool, _ in held[::2]] == [
        pa.default_memory_pool().backend_name, arrow_memory.shared_pool().backend_name
    ]  # fmt: skip
    assert all(nbytes >= 8 * 100_000 for _, nbytes in held[::2])
    assert all(nbytes < 8 * 100_000 for _, nbytes in held[1::2])


def test_a_pyarrow_that_opens_otherwise_decodes_into_its_own_pool(tmp_path, monkeypatch):
    """What takes a pool is private: one without an option of today's, or none at all, and the rows are the same."""
    rows = pa.table({"id": np.arange(100)})
    pq.write_table(rows, tmp_path / "a.parquet")

    class Older:
        def __init__(self, memory_pool):
            assert memory_pool is not None

        def open(self, source, *, metadata, page_checksum_verification, pre_buffer):
            raise AssertionError("an option that it has not was not given")

    monkeypatch.setattr("pyarrow._parquet.ParquetReader", Older)
    assert open_dataset(tmp_path).fetch(0).decode().equals(rows)
    monkeypatch.delattr("pyarrow._parquet.ParquetReader")
    assert open_dataset(tmp_path).fetch(0).decode().equals(rows)


def test_decoding_counts(tmp_path, monkeypatch):
    """A row group that is decoded is counted with the bytes that it takes as a table."""
    pq.write_table(pa.table({"id": np.arange(1000)}), tmp_path / "a.parquet", row_group_size=250)
    data, counted = open_dataset(tmp_path), []
    monkeypatch.setattr(fetch, "decoded", counted.append)
    tables = [data.fetch(group).decode() for group in range(4)]
    assert counted == [table.nbytes for table in tables]
    assert min(counted) >= 250 * 8
