"""Remote datasets: asked for by threads of their own, delivered as if there were none."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from datapipe.errors import ClosedError, IntegrityError
from datapipe.events import HIT, MISS
from datapipe.loader import DataLoader
from datapipe.loader import workshop as workshop_module
from datapipe.loader.backlog import Read
from datapipe.loader.fetching import BYTES, FETCHERS, HITS, LEAST, Fetching, fetching_for
from datapipe.storage.cancelling import result_of
from tests.loader.loader_threads import loader_threads

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.fixture
def remote(memory):
    """As `memory`, of a store that is remote."""

    def make(sizes, rich=False):
        dataset = memory(sizes, rich=rich)
        dataset.store = SimpleNamespace(is_remote=True)
        return dataset

    return make


class Kept:
    """A cache, as far as a loader looks at it."""

    def stats(self):
        return {}


def until(happened):
    for _ in range(12_000):
        if happened():
            return
        time.sleep(0.005)
    pytest.fail("it never happened")


def ids(loader):
    return [batch["id"].tolist() for batch in loader]


@pytest.mark.parametrize(("threads", "prefetch"), [(1, 1), (3, 50)])
@pytest.mark.parametrize(("budget", "delays"), [(1, 0.003), (2000, 0), (2000, 0.003), (1 << 30, 0.003)])
def test_what_is_delivered_is_the_same(remote, regime, threads, prefetch, budget, delays, monkeypatch):
    """Whatever comes first, and however little room there is; in the epochs that are read ahead too."""
    sizes = [13, 40, 7, 22, 31, 5, 16, 28]
    options = {"lanes": 2, "window": 2, "collate": "numpy", "tail": "pad"}
    inline = DataLoader(remote(sizes, rich=True), 5, prefetch=0, **options)
    expected = [ids(inline) for _ in range(3)]
    dataset = remote(sizes, rich=True)
    fetch = dataset.fetch

    def late(block):
        time.sleep(delays * (block * 7 % 5))
        return fetch(block)

    dataset.fetch = late
    loader = DataLoader(dataset, 5, prefetch=prefetch, num_threads=threads, memory_budget=budget, **options)
    assert [ids(loader) for _ in range(3)] == expected
    loader.close()
    assert loader.stats()["held_bytes"] == 0
    assert loader.stats()["threads"] == 0


def test_they_are_asked_for_side_by_side(remote):
    """One thread that decodes, and as many requests under way as may be; never two for one row group."""
    dataset = remote([10] * 64)
    dataset.gate = threading.Event()
    loader = DataLoader(dataset, 10, num_threads=1, collate="numpy", lanes=1, window=64)
    consumer = threading.Thread(target=lambda: next(iter(loader)))
    consumer.start()
    until(lambda: len(dataset.reads) >= FETCHERS)
    # The consumer asks for one itself; at 64 row groups a window nothing else is left to wait for.
    assert len(dataset.reads) <= FETCHERS + 2
    dataset.gate.set()
    consumer.join(60)
    assert not consumer.is_alive()
    assert sorted(dataset.reads[:64]) == list(range(64))
    loader.close()


def test_the_byte_budget_holds(remote, regime):
    """What is held beyond what the next batch needs stays within it, however fast row groups come."""
    dataset = remote([100] * 64)
    budget = 12 * 800  # a window, and half of the next
    loader = DataLoader(dataset, 50, num_threads=2, memory_budget=budget, lanes=1, window=8, collate="numpy")
    assert sum(map(len, ids(loader))) == 6400
    # Beyond it: the block and the batch that the consumer needed, and the batch in the making.
    assert loader.stats()["peak_bytes"] <= budget + 3 * 800
    loader.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_failure_comes_at_its_batch(remote, regime, threads):
    """All batches before it, then the error that the fetch raised, as itself."""
    dataset = remote([10] * 12)
    order = ids(DataLoader(dataset, 10, prefetch=0, lanes=1, window=1, collate="numpy"))
    dataset.fails = {order[7][0] // 10: IntegrityError("cut short")}
    loader = DataLoader(dataset, 10, num_threads=threads, lanes=1, window=1, collate="numpy", autotune=False)
    got = []
    with pytest.raises(IntegrityError, match="cut short"):
        got.extend(batch["id"].tolist() for batch in loader)
    del got[:]
    iterator = iter(DataLoader(dataset, 10, num_threads=threads, lanes=1, window=1, collate="numpy"))
    for _ in range(7):
        got.append(next(iterator)["id"].tolist())
    with pytest.raises(IntegrityError):
        next(iterator)
    assert got == order[:7]
    iterator.close()
    loader.close()


def test_close_gives_up_what_is_under_way(remote):
    """Requests that never come back are cancelled, all of them, and every thread is gone within a second."""
    dataset = remote([10] * 64)
    asked = []

    def never(block):
        future = Future()
        asked.append(future)
        result_of(future)

    dataset.fetch = never
    loader = DataLoader(dataset, 10, num_threads=2, collate="numpy", lanes=1, window=64)
    met = []

    def consume():
        try:
            next(iter(loader))
        except ClosedError as error:
            met.append(error)

    consumer = threading.Thread(target=consume)
    consumer.start()
    until(lambda: len(asked) >= FETCHERS)
    loader.close()
    consumer.join(60)
    assert len(met) == 1
    assert all(future.cancelled() for future in asked)
    assert not loader_threads()


def test_an_abandoned_iterator_ends_them(remote):
    """Collected in the midst of an epoch, it leaves no thread."""
    loader = DataLoader(remote([10] * 64), 10, num_threads=2, collate="numpy")
    iterator = iter(loader)
    next(iterator)
    assert len(loader_threads()) == 2 + FETCHERS
    assert loader.stats()["threads"] == 2 + FETCHERS
    del iterator
    gc.collect()
    for thread in loader_threads():
        thread.join(60)
        assert not thread.is_alive()


def test_no_thread_to_be_had(remote, monkeypatch):
    """Where the machine gives no thread the consumer does it all."""
    monkeypatch.setattr(threading.Thread, "start", _refuse)
    assert sum(map(len, ids(DataLoader(remote([10] * 8), 10, num_threads=2, collate="numpy")))) == 80


def _refuse(_thread):
    raise RuntimeError("can't start new thread")


def read(ordinal, nbytes, course):
    return Read(ordinal, ordinal, nbytes, ordinal, course)


def test_so_many_and_so_much_at_a_time():
    """Small ones up to their number; large ones up to their bytes, but always a few."""
    small, large = Fetching(), Fetching()
    for ordinal in range(FETCHERS):
        assert small.has_room(read(ordinal, 1, None))
        small.begin(read(ordinal, 1, None))
    assert not small.has_room(read(FETCHERS, 1, None))
    for ordinal in range(LEAST):
        assert large.has_room(read(ordinal, BYTES, None))
        large.begin(read(ordinal, BYTES, None))
    assert not large.has_room(read(LEAST, BYTES, None))
    large.came(read(0, BYTES, None), Future())
    assert large.has_room(read(LEAST, BYTES, None))


def test_what_is_needed_first_is_decoded_first():
    """In whatever order it comes."""
    fetching = Fetching()
    assert fetching.first is None
    for ordinal in (5, 3, 9):
        fetching.begin(read(ordinal, 1, None))
        fetching.came(read(ordinal, 1, None), Future())
    assert fetching.first == 3
    assert [fetching.take()[0].ordinal for _ in range(3)] == [3, 5, 9]


def test_the_next_epoch_waits_for_the_last_reads_of_this_one():
    """They would share the link with it."""
    fetching, now, after = Fetching(), object(), object()
    fetching.begin(read(0, 1, now))
    assert not fetching.has_room(read(1, 1, after))
    fetching.came(read(0, 1, now), Future())
    assert fetching.has_room(read(1, 1, after))


def test_nobody_fetches_what_is_at_hand(remote, monkeypatch):
    """Once all comes from the cache those who decode fetch; the first miss brings the others back."""
    dataset = remote([10] * 200)
    fetch, hit, fetched_so_far = dataset.fetch, set(range(200)), []

    def cached(block):
        fetched = fetch(block)
        fetched.flag = HIT if block in hit else MISS
        fetched_so_far.append(block)
        return fetched

    dataset.fetch = cached
    chosen = []
    choose = workshop_module.Workshop.choose_fetch
    monkeypatch.setattr(
        workshop_module.Workshop,
        "choose_fetch",
        lambda shop: _noted(chosen, choose(shop), len(fetched_so_far)),
    )
    loader = DataLoader(dataset, 10, num_threads=1, collate="numpy", lanes=1, window=1, memory_budget=1280)
    iterator = iter(loader)
    for _ in range(150):
        next(iterator)
    assert max(chosen, default=0) < HITS + FETCHERS
    hit.clear()
    rest = [next(iterator)["id"] for _ in range(50)]
    assert sum(map(len, rest)) == 500
    assert max(chosen) > 150
    assert len(set(dataset.reads[:200])) == 200
    iterator.close()
    loader.close()


def _noted(chosen, task, at):
    if task is not None:
        chosen.append(at)
    return task


def test_no_thread_for_what_is_in_a_cache(remote):
    """Those who fetch are there from the first miss on, and not before."""
    dataset = remote([10] * 100)
    dataset.cache = Kept()
    fetch, hit = dataset.fetch, set(range(100))

    def cached(block):
        fetched = fetch(block)
        fetched.flag = HIT if block in hit else MISS
        return fetched

    dataset.fetch = cached
    loader = DataLoader(dataset, 10, num_threads=1, collate="numpy", lanes=1, window=1, memory_budget=1600)
    iterator = iter(loader)
    for _ in range(60):
        next(iterator)
    assert len(loader_threads()) == 1
    hit.clear()
    assert sum(len(batch["id"]) for batch in iterator) == 400
    assert len(loader_threads()) == loader.stats()["threads"] == 1 + FETCHERS
    loader.close()


def test_hits_are_counted_in_succession():
    """A miss, or a read that no cache was asked for, begins anew."""
    fetching = Fetching()
    for flag in [HIT] * (HITS - 1) + [MISS] + [HIT] * (HITS - 1):
        assert not fetching.saw(flag)
        assert not fetching.at_hand
    fetching.saw(HIT)
    assert fetching.at_hand
    assert fetching.saw(0)
    assert not fetching.at_hand


def test_who_waits():
    """A remote dataset, and a mixture with one; not what lies here, nor what has no store."""

    def of(*, is_remote, cache=None):
        return SimpleNamespace(store=SimpleNamespace(is_remote=is_remote), cache=cache)

    here, far, kept = of(is_remote=False), of(is_remote=True), of(is_remote=True, cache=object())
    assert fetching_for(here) is fetching_for(SimpleNamespace()) is None
    assert fetching_for(far) is not None
    assert fetching_for(SimpleNamespace(sources=[here, far])) is not None
    # What has a cache may be there, until something is not.
    assert fetching_for(kept).at_hand
    assert fetching_for(SimpleNamespace(sources=[here, kept])).at_hand
    assert not fetching_for(SimpleNamespace(sources=[far, kept])).at_hand
