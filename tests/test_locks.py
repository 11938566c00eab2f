"""What a process and its forked children both go on with does not stop the children."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe import Bucket, DataLoader, events, open_dataset
from datapipe.locks import _LOCKS, new_lock
from datapipe.storage import local, open_store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")


def in_a_child(work):
    """Whether it came out true in a forked child; one that stands still is ended."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        try:
            os._exit(not work())
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


def test_a_child_finds_locks_free():
    """Whoever has it in the parent: there it stays taken."""
    lock = new_lock()
    with lock:
        assert in_a_child(lambda: lock.acquire(blocking=False))
        assert lock.locked()


@pytest.fixture
def rows(tmp_path):
    pq.write_table(pa.table({"id": np.arange(100), "n": [[0] * (k % 5) for k in range(100)]}), tmp_path / "a.parquet")
    return tmp_path


def test_a_child_reads_what_its_parent_was_reading(rows, monkeypatch):
    """A thread is in the midst of a footer at the fork: in the child nobody brings it, and the child does."""
    inside, on = threading.Event(), threading.Event()
    tail = local.LocalStore.tail

    def slow(store, *asked):
        if threading.current_thread().name == "reader":
            inside.set()
            on.wait()
        return tail(store, *asked)

    monkeypatch.setattr(local.LocalStore, "tail", slow)
    dataset = open_dataset(rows)
    dataset._shards._footers.forget(0)
    reader = threading.Thread(target=dataset.fetch, args=(0,), name="reader", daemon=True)
    reader.start()
    try:
        assert inside.wait(60)
        assert in_a_child(lambda: dataset.fetch(0).decode().num_rows == 100)
    finally:
        on.set()
        reader.join()


def test_a_child_goes_on_with_the_locks_of_a_loader(rows):
    """All that are taken at the fork: of the dataset, the store, the epoch's walk, the lengths, the recorder."""
    recorder = events.Recorder()
    dataset = open_dataset(rows, cache=str(rows / "cache"), filters=[("id", ">=", 10)])
    loader = DataLoader(dataset, 10, bucket=Bucket(max_tokens=12, column="n"), collate="numpy", num_threads=1)
    with loader, events.recording(recorder):
        batches = sum(1 for _ in loader)
        taken = [lock for lock in list(_LOCKS) if lock.acquire(blocking=False)]
        try:
            assert len(taken) > 5
            assert in_a_child(lambda: sum(1 for _ in loader) == batches > 1)
        finally:
            for lock in taken:
                lock.release()


def test_a_child_reads_from_afar():
    """The thread that sends requests is not in the child, which gets one of its own."""
    store = open_store("memory://forked/root")
    store.put("a.bin", b"0123456789")
    assert store.read_ranges("a.bin", [(0, 4)]) == [b"0123"]
    assert in_a_child(lambda: store.read_ranges("a.bin", [(4, 6)]) == [b"45"] and store.info("a.bin").size == 10)
    assert store.read("a.bin") == b"0123456789"
