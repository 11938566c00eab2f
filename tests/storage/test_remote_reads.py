"""Ranges read side by side from real servers through a proxy that spoils answers: exact bytes, or an error."""

import socket
import struct
import sys
import threading
import uuid

import numpy as np
import pytest

from datapipe.errors import IntegrityError, StorageError
from datapipe.storage import remote_reads, remote_requests
from datapipe.storage.remote import RemoteStore
from datapipe.storage.retry import Retry

QUICK = Retry(attempts=4, first_s=0.001, longest_s=0.002, deadline_s=30)
# Where a limit is made short, a busy machine may keep honest answers beyond it too: those pass in the end.
PATIENT = Retry(attempts=200, first_s=0.001, longest_s=0.002, deadline_s=120)
DATA = np.random.default_rng(0).bytes(100_000)
SPANS = [(0, 1000), (5000, 5001), (20_000, 90_000), (99_990, 100_000)]


def status(code):
    """Refused, with a body that is no data."""

    def spoil(handler, _status, _headers, _body):
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return spoil


def reset(handler, *_):
    """The connection is reset without a word."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()
    handler.wfile = handler.rfile = open("/dev/null", "r+b", buffering=0)  # noqa: SIM115, PTH123


def cut(handler, code, headers, body):
    """The body ends in its middle."""
    _answer(handler, code, headers, body, keep=len(body) // 2)


def trickle(handler, code, headers, body):
    """A byte now and then."""
    pause = threading.Event()
    _answer(handler, code, headers, body, pace=lambda: pause.wait(0.05))


def stuck(handler, *_):
    """No answer at all."""
    handler.server.never.wait(120)
    handler.close_connection = True


def honest(handler, code, headers, body):
    """Fewer bytes than asked for, by a server that means it."""
    headers = [(k, v) for k, v in headers if k.lower() != "content-range"]
    headers.append(("Content-Range", f"bytes 0-{len(body) // 2 - 1}/{len(body) // 2}"))
    _answer(handler, code, headers, body[: len(body) // 2])


def _answer(handler, *answer, **how):
    handler.server.answer(handler, *answer, **how)


@pytest.fixture(params=["s3", "http"])
def served(request, proxied):
    """(store behind a proxy, the proxy, put): one object "x"."""
    if request.param == "http":
        web = request.getfixturevalue("web")
        web.objects["/d/x"] = DATA
        proxy = proxied(web.url)
        store = RemoteStore(f"{proxy.url}/d", retry=QUICK)
        put = lambda data: web.objects.update({"/d/x": data})  # noqa: E731
    else:
        options = dict(request.getfixturevalue("s3_options"))
        bucket = request.getfixturevalue("s3_bucket")
        direct = RemoteStore(f"s3://{bucket}", storage_options=options)
        direct.put("x", DATA)
        proxy = proxied(options["client_kwargs"]["endpoint_url"])
        through = {**options, "client_kwargs": {**options["client_kwargs"], "endpoint_url": proxy.url}}
        store = RemoteStore(f"s3://{bucket}", storage_options=through, retry=QUICK)
        put = lambda data: direct.put("x", data)  # noqa: E731
    yield store, proxy, put
    proxy.never.set()


def check(store, pinned=None):
    assert [bytes(part) for part in store.read_ranges("x", SPANS, pinned)] == [DATA[a:b] for a, b in SPANS]


@pytest.mark.parametrize("fault", [status(503), status(500), status(429), reset, cut], ids=lambda f: f.__name__)
def test_faults_that_pass(served, fault):
    """Each range is tried again by itself: the bytes are exact, and a fault costs one more request."""
    store, proxy, _ = served
    proxy.faults = [fault, None, fault]
    check(store)
    assert len(proxy.ranges) == len(SPANS) + 2
    # aiohttp itself asks once more where a kept connection was reset before it answered.
    assert store.counts.retries == 2 or fault is reset


@pytest.mark.parametrize("fault", [status(503), reset, cut], ids=lambda f: f.__name__)
def test_faults_that_stay(served, fault):
    """A StorageError after the attempts that were allowed; never a short answer, never a hang."""
    store, proxy, _ = served
    proxy.always = fault
    with pytest.raises(StorageError, match="x"):
        store.read("x", 5, 500)
    assert len(proxy.ranges) == QUICK.attempts or (fault is reset and len(proxy.ranges) <= 2 * QUICK.attempts)
    with pytest.raises(StorageError):
        store.read_ranges("x", SPANS)


def test_a_trickle_is_a_stall(served, monkeypatch):
    """A body that comes by the byte is given up for another; one that always does is an error."""
    monkeypatch.setattr(remote_requests, "WINDOW_S", 0.4)
    store, proxy, _ = served
    store._reads._retry = PATIENT
    proxy.faults = [trickle]
    assert store.read("x", 0, 1000) == DATA[:1000]
    assert store.counts.retries >= 1
    check(store)
    store._reads._retry = QUICK
    proxy.always = trickle
    with pytest.raises(StorageError, match="tried again"):
        store.read("x", 0, 1000)


def test_no_answer_is_a_stall(served, monkeypatch):
    """A request that nobody answers is given up for another, which is answered."""
    store, proxy, _ = served
    check(store)  # a client is made for the first request, which takes as long as the limit on a busy machine
    monkeypatch.setattr(remote_requests, "FIRST_BYTE_S", 0.5)
    store._reads._retry = PATIENT
    proxy.faults = [stuck]
    check(store)
    assert store.counts.retries >= 1


def test_an_object_shorter_than_its_index(served):
    """Told at once, not tried again: it will not grow."""
    store, proxy, put = served
    put(DATA[:5000])
    for spans in ([(4000, 6000)], [(0, 10), (4000, 6000)], [(6000, 7000)]):
        with pytest.raises(IntegrityError):
            store.read_ranges("x", spans)
    assert 3 <= len(proxy.ranges) <= 4  # one that fails ends the others, which may not have been sent or come late
    proxy.always = honest  # and not the next one only: a request given up above may still be on its way
    with pytest.raises(IntegrityError):
        store.read("x", 0, 1000)


def test_an_object_that_is_replaced(served):
    """What was opened as one version is not read as another."""
    store, _, put = served
    entry, tail = store.tail("x", 100)
    assert tail == DATA[-100:]
    assert entry == store.info("x")
    check(store, entry)
    put(DATA[::-1])
    with pytest.raises(IntegrityError, match="replaced") as caught:
        check(store, entry)
    assert "x" in str(caught.value)
    put(DATA)
    check(store, entry)


def test_tails(served):
    """The whole of a short object; of an empty one nothing."""
    store, proxy, put = served
    assert store.tail("x", 1 << 20)[1] == DATA
    assert len(proxy.ranges) == 1
    put(b"")
    entry, tail = store.tail("x", 10)
    assert (entry.size, tail) == (0, b"")


@pytest.fixture
def hedged(served, in_turn, monkeypatch):
    """As `served`, by a store that made 40 requests of 1,000 bytes, of 0.2 s each: a hedge goes out after 0.4 s."""
    store, proxy, _ = served
    # A machine that stands still for some seconds makes no request fail: what comes first is told by `in_turn`.
    monkeypatch.setattr(remote_requests, "FIRST_BYTE_S", 120)
    monkeypatch.setattr(remote_requests, "WINDOW_S", 120)
    for _ in range(40):
        store._reads._latencies.add(1000, 0.2, 0.2)
    in_turn(store, proxy.ranges)
    return store, proxy


def test_a_late_request_is_sent_twice(hedged):
    """One that takes longer than others do is hedged: the second answer is taken, the first let go."""
    store, proxy = hedged
    proxy.faults = [stuck]
    assert store.read("x", 1000, 2000) == DATA[1000:2000]
    assert (store.counts.hedges, store.counts.hedges_won, store.counts.retries) == (1, 1, 0)


def test_a_body_that_is_late_is_sent_twice(hedged):
    """Not when it is a little slower than others, as on a full link; when it takes many times as long."""
    store, proxy = hedged
    proxy.faults = [trickle]
    assert store.read("x", 1000, 2000) == DATA[1000:2000]
    assert (store.counts.hedges, store.counts.hedges_won, store.counts.retries) == (1, 1, 0)


def test_a_hedge_that_fails_does_not_matter(hedged):
    """The request that was late still counts; what went wrong with the second is nobody's concern."""
    store, proxy = hedged
    second = threading.Event()

    def late(handler, code, headers, body):
        assert second.wait(120)
        _answer(handler, code, headers, body)

    def fails(handler, *rest):
        status(404)(handler, *rest)
        second.set()

    proxy.faults = [late, fails]
    assert store.read("x", 1000, 2000) == DATA[1000:2000]
    assert (store.counts.hedges, store.counts.hedges_won) == (1, 0)


def test_ranges_are_asked_for_side_by_side(served):
    """All of a row group's ranges are in flight at once: none is answered before all were asked for."""
    store, proxy, _ = served
    together = threading.Barrier(len(SPANS))

    def wait(handler, code, headers, body):
        together.wait(60)
        _answer(handler, code, headers, body)

    proxy.faults = [wait] * len(SPANS)
    check(store)


def test_a_host_is_asked_by_so_many_at_a_time(served, monkeypatch):
    """The limit holds over all stores and threads of the process."""
    monkeypatch.setattr(remote_reads, "PARALLEL", 3)
    monkeypatch.setattr(remote_reads, "_LIMITS", {})
    store, proxy, _ = served
    other = RemoteStore(*store.__reduce__()[1][:1], storage_options=store.__reduce__()[1][1], retry=QUICK)
    pause = threading.Event()

    def slowly(handler, code, headers, body):
        for _ in range(3000):  # till as many are here as may be, and then for those that may not
            if pause.wait(0.02) or proxy.most >= 3:
                break
        _answer(handler, code, headers, body)

    proxy.always = slowly
    threads = [threading.Thread(target=check, args=(s,)) for s in (store, other, store, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert proxy.most == 3
    assert len(proxy.ranges) == 4 * len(SPANS)


def test_long_ranges_are_asked_for_in_parts(served, monkeypatch):
    """A range beyond a part's size comes whole, in whatever order its parts do, faults included."""
    monkeypatch.setattr(remote_reads, "PART", 7001)
    store, proxy, _ = served
    proxy.faults = [cut, None, status(503)]
    check(store)
    assert store.read("x", 0, 100_000) == DATA
    assert len(proxy.ranges) == 3 + 10 + 2 + 14


def test_the_gap_is_measured(served):
    """What is worth reading past follows what requests take; a guess before, within bounds always."""
    store, _, _ = served
    assert store.gap == remote_reads.DEFAULT_GAP
    store._reads._latencies._rate.extend([50e6] * 20)
    store._reads._latencies._first.extend([0.02] * 20)
    assert store.gap == 1_000_000
    store._reads._latencies._rate.extend([1e3] * 128)
    assert store.gap == remote_reads.LEAST_GAP


@pytest.mark.parametrize("url", ["memory", "local"])
def test_other_stores_have_ranges_and_tails(url, tmp_path):
    """The same contract where there is nothing to wait for."""
    from datapipe.storage import open_store

    store = open_store(f"memory://{uuid.uuid4().hex}/r" if url == "memory" else str(tmp_path))
    store.put("x", DATA)
    entry, tail = store.tail("x", 10)
    assert tail == DATA[-10:]
    check(store, entry)
    with pytest.raises(IntegrityError):
        store.read_ranges("x", [(0, 1), (99_999, 100_001)])
    if url == "local":
        store.put("x", DATA[::-1])
        with pytest.raises(IntegrityError, match="replaced"):
            store.read_ranges("x", [(0, 1)], entry)


@pytest.mark.parametrize(
    ("url", "options", "cached"),
    [
        ("gs://b/p", {"token": "anon"}, False),
        ("abfs://c/p", {"account_name": "a"}, False),
        ("hf://datasets/o/n", {}, None),
    ],
)
def test_other_services_are_constructed_by_fsspec(url, options, cached, monkeypatch):
    """gs://, abfs:// and hf:// get the user's options, no listing cache, and are read by their own means."""
    from fsspec.implementations.memory import MemoryFileSystem

    made = []
    scheme = url.partition("://")[0]

    class Fake(MemoryFileSystem):
        protocol = scheme
        cachable = False
        store = {"/p/x": None}  # noqa: RUF012

        def __init__(self, **kwargs):
            made.append(kwargs)
            super().__init__()

        @classmethod
        def _strip_protocol(cls, path):
            return "/" + path.removeprefix(f"{scheme}://")

        def cat_file(self, path, start=None, end=None, **kwargs):
            return DATA[start:end]

        def info(self, path, **kwargs):
            return {"name": path, "size": len(DATA), "type": "file", "etag": "e"}

        def invalidate_cache(self, path=None):
            pass

    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, scheme, Fake)
    store = RemoteStore(url, storage_options=options, retry=QUICK)
    check(store)
    assert store.read("x") == DATA
    assert store.tail("x", 5)[1] == DATA[-5:]
    assert {**options, **({} if cached is None else {"use_listings_cache": cached})}.items() <= made[0].items()
    assert cached is not None or "use_listings_cache" not in made[0]
