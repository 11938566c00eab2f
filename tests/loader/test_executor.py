"""The executor: in order, bounded, never stuck, and gone when told."""

from __future__ import annotations

import gc
import threading
import traceback
import weakref
from concurrent.futures import Future

import numpy as np
import pyarrow as pa
import pytest

from datapipe.errors import ClosedError, IntegrityError
from datapipe.loader import DataLoader
from datapipe.loader import executor as executor_module
from datapipe.loader import workshop as workshop_module
from datapipe.storage.cancelling import result_of
from tests.loader.loader_threads import loader_threads

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


def ids(loader):
    return [batch["id"].tolist() for batch in loader]


# A Latin square: each pair of values of two of the three meets once.
@pytest.mark.parametrize(
    ("threads", "prefetch", "budget"),
    [(1, 1, 1), (1, 3, 2000), (1, 50, 1 << 30), (2, 1, 2000), (2, 3, 1 << 30), (2, 50, 1), (5, 1, 1 << 30), (5, 3, 1),
     (5, 50, 2000)],
)  # fmt: skip
def test_threads_prefetch_and_budget_change_nothing_of_what_is_delivered(memory, regime, threads, prefetch, budget):
    dataset = memory([13, 40, 7, 22, 31, 5, 16, 28], rich=True)
    options = {"lanes": 2, "window": 2, "collate": "numpy", "tail": "pad"}
    expected = ids(DataLoader(dataset, 5, prefetch=0, **options))
    loader = DataLoader(dataset, 5, prefetch=prefetch, num_threads=threads, memory_budget=budget, **options)
    assert ids(loader) == expected
    assert loader.stats()["held_bytes"] <= max(budget, 1000)  # of the next epoch
    loader.close()
    assert loader.stats()["held_bytes"] == 0


def test_the_byte_budget_holds(memory, regime):
    """What is held beyond what the next batch needs stays within the budget: no read-ahead of the whole dataset."""
    dataset = memory([100] * 40)
    block = 800
    loader = DataLoader(
        dataset, 10, lanes=1, window=1, num_threads=4, prefetch=4, memory_budget=6 * block, collate="numpy"
    )
    for _ in loader:
        assert loader.stats()["held_bytes"] <= 7 * block
    assert loader.stats()["peak_bytes"] <= 7 * block
    assert loader.stats()["blocks"] <= 46


def test_no_more_than_prefetch_is_ready(memory, monkeypatch):
    monkeypatch.setattr(workshop_module, "CHEAP_NS", 0)
    dataset = memory([100] * 10)
    loader = DataLoader(dataset, 10, num_threads=3, prefetch=2, collate="numpy")
    for _ in loader:
        assert loader.stats()["ready"] <= 2


def test_threads_read_ahead_while_the_consumer_is_away(memory, regime):
    """With one batch taken, blocks beyond its own are read without being asked for."""
    dataset = memory([10] * 20)
    loader = DataLoader(dataset, 10, lanes=1, window=1, num_threads=1, prefetch=2, collate="numpy")
    iterator = iter(loader)
    next(iterator)
    read = threading.Event()
    fetch = dataset.fetch

    def watched(block):
        read.set()
        return fetch(block)

    dataset.fetch = watched
    assert len(dataset.reads) > 1 or read.wait(60)
    loader.close()


@pytest.mark.parametrize("prefetch", [0, 1, 8])
def test_an_error_comes_after_every_batch_before_it(memory, regime, prefetch):
    dataset = memory([10] * 10)
    dataset.fails[7] = IntegrityError("block 7 is damaged")
    loader = DataLoader(dataset, 5, shuffle=False, num_threads=3, prefetch=prefetch, collate="numpy")
    seen = []

    def consume():
        for batch in loader:
            seen.extend(batch["id"].tolist())

    with pytest.raises(IntegrityError, match="block 7") as caught:
        consume()
    assert seen == list(range(70))
    assert "fetch" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert loader.state_dict()["position"] == 14


@pytest.mark.parametrize("prefetch", [0, 4])
def test_an_error_in_the_data_names_shard_and_row_group(of_tables, prefetch):
    good, bad = pa.table({"x": [1, 2]}), pa.table({"x": pa.array([3, None])})
    loader = DataLoader(of_tables(good, bad), 2, shuffle=False, prefetch=prefetch, collate="numpy")
    with pytest.raises(Exception, match="column 'x' holds 1 null") as caught:
        list(loader)
    assert caught.value.__notes__ == ["shard shard-0, row group 1"]


@pytest.mark.parametrize("prefetch", [0, 4])
def test_after_an_error_the_state_goes_on_where_it_stood(memory, prefetch):
    """What failed once (a store that was away) is read again by the next iteration from the state."""
    dataset = memory([10] * 4)
    dataset.fails[2] = OSError("away")
    loader = DataLoader(dataset, 5, shuffle=False, prefetch=prefetch, collate="numpy")
    with pytest.raises(OSError, match="away"):
        list(loader)
    dataset.fails.clear()
    loader.load_state_dict(loader.state_dict())
    assert [i for batch in ids(loader) for i in batch] == list(range(20, 40))


@pytest.mark.parametrize("taken", [0, 1, 5, 19, 20])
def test_close_ends_it_from_any_state(memory, regime, taken):
    loader = DataLoader(memory([10] * 20), 10, num_threads=3, prefetch=4, collate="numpy")
    iterator = iter(loader)
    for _ in range(taken):
        next(iterator)
    loader.close()
    assert loader.stats()["threads"] == 0
    assert loader.stats()["held_bytes"] == 0
    with pytest.raises(ClosedError):
        next(iterator)
    with pytest.raises(ClosedError):
        iter(loader)
    loader.close()


@pytest.mark.parametrize("given", [0, 2])
def test_a_machine_that_gives_no_more_threads_is_no_reason_to_fail(memory, monkeypatch, given):
    """Threads that cannot be started are done without: the consumer can do everything itself."""
    start = threading.Thread.start
    count = iter(range(100))

    def limited(self):
        if self.name.startswith("datapipe-loader") and next(count) >= given:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", limited)
    loader = DataLoader(memory([10] * 20), 10, num_threads=4, prefetch=2, collate="numpy")
    assert len(ids(loader)) == 20
    assert loader.stats()["threads"] == given
    loader.close()


def test_close_frees_a_consumer_that_waits(memory):
    """The consumer waits for a read that hangs; closing from another thread ends the wait."""
    dataset = memory([10] * 4)
    dataset.gate = threading.Event()
    loader = DataLoader(dataset, 10, num_threads=1, prefetch=1, collate="numpy", lanes=1, window=1)
    iterator = iter(loader)
    ended = threading.Event()

    def consume():
        with pytest.raises(ClosedError):
            next(iterator)
        ended.set()

    consumer = threading.Thread(target=consume)
    consumer.start()
    closer = threading.Thread(target=loader.close)
    closer.start()
    dataset.gate.set()
    consumer.join(60)
    closer.join(60)
    assert ended.is_set() or not consumer.is_alive()


def test_close_gives_up_remote_reads(memory):
    """Threads and a consumer that wait for requests which never come back are freed: the requests are cancelled."""
    dataset = memory([10] * 8)
    asked = []

    def never(block):
        asked.append(Future())
        result_of(asked[-1])

    dataset.fetch = never
    loader = DataLoader(dataset, 10, num_threads=2, prefetch=1, collate="numpy")
    met = []

    def consume():
        try:
            next(iter(loader))
        except ClosedError as error:
            met.append(error)

    consumer = threading.Thread(target=consume)
    consumer.start()
    while len(asked) < 2:
        pass
    loader.close()
    consumer.join(60)
    assert len(met) == 1
    assert all(future.cancelled() for future in asked)


def test_a_consumer_that_makes_batches_lets_threads_have_the_lock(memory, monkeypatch):
    """While a thread is at work the consumer sleeps between batches now and then; a thread that waits needs nothing."""
    monkeypatch.setattr(workshop_module, "CHEAP_NS", 1 << 60)
    monkeypatch.setattr(executor_module, "_SHARED_NS", 0)
    slept = []
    monkeypatch.setattr(executor_module.time, "sleep", slept.append)
    dataset = memory([100] * 3)
    began, go_on, fetch = threading.Event(), threading.Event(), dataset.fetch

    def slow(block):
        if block == 2 and threading.current_thread() in loader_threads():
            began.set()
            go_on.wait(60)
        return fetch(block)

    dataset.fetch = slow
    loader = DataLoader(
        dataset, 10, lanes=1, window=1, shuffle=False, num_threads=1, prefetch=2, collate="numpy", memory_budget="1 MB"
    )
    iterator = iter(loader)
    next(iterator)
    assert began.wait(60)
    slept.clear()
    for _ in range(15):
        next(iterator)
    assert slept.count(0) >= 10
    go_on.set()
    loader.close()


def test_an_abandoned_iterator_is_collected_and_its_threads_end(memory):
    loader = DataLoader(memory([10] * 50), 10, num_threads=3, prefetch=4, collate="numpy")
    iterator = iter(loader)
    next(iterator)
    threads = loader_threads()
    assert len(threads) == 3
    gone = weakref.ref(iterator)
    del iterator
    gc.collect()
    assert gone() is None
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_a_new_iteration_ends_the_one_before(memory):
    loader = DataLoader(memory([10] * 20), 10, num_threads=2, prefetch=2, collate="numpy")
    old = iter(loader)
    next(old)
    new = iter(loader)
    next(new)
    assert len(loader_threads()) == 2
    with pytest.raises(ClosedError):
        next(old)
    loader.close()


def test_a_transform_that_exits_does_not_hang_the_consumer(memory, regime):
    """Even an exception that is no Exception reaches the consumer."""

    def leaves(batch):
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        list(DataLoader(memory([10] * 4), 10, transform=leaves, num_threads=2, collate="numpy"))


def test_blocks_are_let_go_as_the_epoch_goes_on(of_tables):
    """No stretch keeps its blocks after its last batch: early tables are freed while late ones are read."""
    freed = []

    class Watched:
        def __init__(self, n):
            self.data = np.arange(n * 100, n * 100 + 100, dtype=np.int64)
            weakref.finalize(self.data, freed.append, n)

    tables = []
    for n in range(12):
        watched = Watched(n)
        tables.append(pa.table({"id": pa.Array.from_buffers(pa.int64(), 100, [None, pa.py_buffer(watched.data)])}))
        del watched
    dataset = of_tables(*tables)
    dataset.tables = dict(enumerate(tables))
    fetch = dataset.fetch

    def once(block):
        fetched = fetch(block)
        del dataset.tables[block]
        return fetched

    dataset.fetch = once
    del tables
    loader = DataLoader(dataset, 100, shuffle=False, num_threads=1, prefetch=1, memory_budget=1, collate="numpy")
    for number, batch in enumerate(loader):
        assert batch["id"][0] == number * 100
        gc.collect()
        assert len(freed) >= number - 4


@pytest.mark.parametrize("prefetch", [0, 2])
def test_collecting_an_iterator_that_ended_leaves_the_next_ones_counters(memory, prefetch):
    loader = DataLoader(memory([100] * 8), 10, prefetch=prefetch, collate="numpy")
    first = iter(loader)
    next(first)
    second = iter(loader)
    next(second)
    del first
    gc.collect()
    assert loader.stats()["held_bytes"] > 0
    assert loader.stats()["threads"] == (loader.num_threads if prefetch else 0)
    loader.close()
