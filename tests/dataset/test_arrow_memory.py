"""Row groups are decoded into memory that is kept a while, and given back: by itself, or asked by those who decode."""

from __future__ import annotations

import os
import threading
import weakref

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
def alone(monkeypatch):
    """No thread of another test's loader decodes."""
    monkeypatch.setattr(arrow_memory, "_DECODERS", weakref.WeakSet())


def on_a_thread(name, work):
    thread = threading.Thread(target=work, name=name)
    thread.start()
    thread.join()


@pytest.mark.parametrize("backend", ["mimalloc", "system"])
def test_each_thread_asks_by_itself(monkeypatch, backend):
    """Half a step twice on one thread: once asked. Half a step on each of two: not at all.

    It is Arrow's default that is asked, whatever was decoded into: another pyarrow may decode there.
    """
    pool = Pool(backend)
    monkeypatch.setattr(pa, "default_memory_pool", lambda: pool)
    half = arrow_memory.STEP // 2
    on_a_thread("one", lambda: [arrow_memory.decoded(half) for _ in range(4)])
    on_a_thread("two", lambda: arrow_memory.decoded(half))
    on_a_thread("three", lambda: arrow_memory.decoded(half))
    assert pool.asked == ["one", "one"]


def test_an_allocator_that_gives_back_by_itself_is_not_asked(monkeypatch):
    pool = Pool("jemalloc")
    monkeypatch.setattr(pa, "default_memory_pool", lambda: pool)
    on_a_thread("one", lambda: arrow_memory.decoded(arrow_memory.STEP))
    assert not pool.asked


def no_memory(size, memory_pool):
    raise pa.ArrowMemoryError("malloc of size 64 failed")


@pytest.mark.parametrize(
    ("default", "built", "change", "wanted"),
    [
        ("mimalloc", ["mimalloc", "jemalloc", "system"], {}, "jemalloc"),
        ("mimalloc", ["mimalloc", "system"], {}, "mimalloc"),  # a wheel without it
        ("mimalloc", ["mimalloc", "jemalloc", "system"], {"told": "mimalloc"}, "mimalloc"),  # the user's word
        ("mimalloc", ["mimalloc", "jemalloc", "system"], {"told": "snmalloc"}, "jemalloc"),  # Arrow does not know it
        ("system", ["mimalloc", "jemalloc", "system"], {}, "system"),  # set_memory_pool
        ("jemalloc", ["mimalloc", "jemalloc", "system"], {}, "jemalloc"),
        ("jemalloc", ["jemalloc", "system"], {}, "jemalloc"),
        ("mimalloc", ["mimalloc", "jemalloc", "system"], {"allocate": no_memory}, "mimalloc"),  # ARM, pages of 64 KiB
        ("mimalloc", ["mimalloc", "jemalloc", "system"], {"decays": False}, "mimalloc"),  # macOS
    ],
)
def test_memory_is_jemallocs_where_it_is_of_use(monkeypatch, default, built, change, wanted):
    """And nobody said otherwise. Its decay is everybody's in this process, and not set."""
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", change.get("told", ""))
    monkeypatch.setattr(pa, "default_memory_pool", lambda: Pool(default))
    monkeypatch.setattr(pa, "supported_memory_backends", lambda: built)
    monkeypatch.setattr(pa, "jemalloc_memory_pool", lambda: Pool("jemalloc"))
    monkeypatch.delattr(pa, "jemalloc_set_decay_ms")
    monkeypatch.setattr(pa, "allocate_buffer", change.get("allocate", lambda size, memory_pool: None))
    monkeypatch.setattr(arrow_memory, "_decays", lambda: change.get("decays", True))
    monkeypatch.setattr(arrow_memory, "_jemalloc", arrow_memory._jemalloc.__wrapped__)
    assert arrow_memory.shared_pool().backend_name == wanted


@pytest.mark.skipif(not hasattr(os, "fork") or arrow_memory._jemalloc() is None, reason="jemalloc is of no use here")
def test_a_forked_child_has_arrows_default():
    """What gives jemalloc's memory back is a thread of its own, and not in the child."""
    child = os.fork()
    if not child:
        os._exit(arrow_memory.shared_pool().backend_name != pa.default_memory_pool().backend_name)
    assert os.waitpid(child, 0)[1] == 0


def test_a_pool_that_the_user_takes_away_is_not_held_on_to(tmp_path, monkeypatch):
    """Arrow's default is what it is by now: one that is gone would be written to all the same."""
    pq.write_table(pa.table({"id": np.arange(100_000)}), tmp_path / "a.parquet")
    monkeypatch.setattr(arrow_memory, "_jemalloc", lambda: None)
    arrow, held = pa.default_memory_pool(), []
    users = pa.proxy_memory_pool(arrow)
    pa.set_memory_pool(users)
    try:
        group = open_dataset(tmp_path).fetch(0)
        on_a_thread("decoder", lambda: held.append(group.decode()))
        assert users.bytes_allocated() >= 8 * 100_000
        held.clear()
    finally:
        pa.set_memory_pool(arrow)
    on_a_thread("decoder", lambda: held.append(group.decode()))
    assert users.bytes_allocated() == 0


@pytest.mark.usefixtures("alone")
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


@pytest.mark.usefixtures("alone")
def test_the_main_thread_decodes_with_those_beside_it():
    """Memory that it frees elsewhere would be theirs only once it decodes again; alone it has Arrow's default."""
    default, shared = pa.default_memory_pool().backend_name, arrow_memory.shared_pool().backend_name
    seen, decodes, ends = [], threading.Event(), threading.Event()

    def work():
        seen.append(arrow_memory.decoding_pool().backend_name)
        decodes.set()
        ends.wait()

    thread = threading.Thread(target=work, daemon=True)
    seen.append(arrow_memory.decoding_pool().backend_name)
    thread.start()
    assert decodes.wait(60)
    seen.append(arrow_memory.decoding_pool().backend_name)
    ends.set()
    thread.join()
    del thread
    seen.append(arrow_memory.decoding_pool().backend_name)
    assert seen == [default, shared, shared, default]


def test_a_pyarrow_that_opens_otherwise_decodes_into_its_own_pool(tmp_path, monkeypatch):
    """What takes a pool is private: one without an option of today's, or none at all, and the rows are the same."""
    rows = pa.table({"id": np.arange(100)})
    pq.write_table(rows, tmp_path / "a.parquet")

    class Other:
        def __init__(self, memory_pool):
            assert memory_pool is not None

        def open(self, source, *, metadata, page_checksum_verification):
            raise AssertionError("an option that it has not was not given")

    monkeypatch.setattr("pyarrow._parquet.ParquetReader", Other)
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


@pytest.mark.skipif(not hasattr(pa, "uuid"), reason="an older pyarrow")
@pytest.mark.parametrize("stored", [True, False])
def test_rows_are_of_the_datasets_types(tmp_path, stored):
    """A file by another writer, without Arrow's schema, calls its bytes a UUID: rows are what the schema says."""
    rows = pa.table({"id": pa.array([bytes(16)] * 3, pa.uuid())})
    pq.write_table(rows, tmp_path / "a.parquet", store_schema=stored)
    dataset = open_dataset(tmp_path)
    assert dataset.take([0, 2]).schema.types == dataset.schema.types == [pa.uuid() if stored else pa.binary(16)]
