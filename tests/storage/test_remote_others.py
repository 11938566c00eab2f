"""gs://, abfs:// and hf://: what fsspec reads by its own means keeps the same promises. The services are mocked."""

import asyncio
import errno
import io
import sys
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.spec import AbstractFileSystem

from datapipe import DataLoader, open_dataset
from datapipe.errors import AccessError, ConfigError, IntegrityError, NotFoundError, StorageError
from datapipe.storage import remote_reads, remote_requests
from datapipe.storage.remote import RemoteStore
from datapipe.storage.retry import Retry

QUICK = Retry(attempts=4, first_s=0.001, longest_s=0.002, deadline_s=30)
DATA = np.random.default_rng(0).bytes(100_000)
SPANS = [(0, 1000), (5000, 5001), (20_000, 90_000), (99_990, 100_000)]
SECRET = "hunter2hunter2"


def failure(name, **attributes):
    """An exception of a library that is not installed here: it is told by its class's name and its status."""
    error = type(name, (Exception,), {})(f"{name} for token {SECRET}")
    for key, value in attributes.items():
        setattr(error, key, value)
    return error


def response(status):
    return type("Response", (), {"status_code": status})()


# As gcsfs, azure.core and huggingface_hub raise them.
PASSING = {
    "gs": [failure("HttpError", code=503), failure("HttpError", code="429"), failure("ClientOSError")],
    "abfs": [
        failure("HttpResponseError", status_code=503),
        failure("ServiceResponseError"),
        failure("ServiceRequestError"),
    ],
    "hf": [failure("HfHubHTTPError", response=response(502)), failure("ReadTimeout"), failure("ConnectTimeout")],
}
FORBIDDEN = {
    "gs": failure("HttpError", code=403),
    "abfs": failure("ClientAuthenticationError", status_code=403),
    "hf": failure("GatedRepoError", response=response(403)),
}
ABSENT = {
    "gs": FileNotFoundError(errno.ENOENT, "no"),
    "abfs": failure("ResourceNotFoundError", status_code=404),
    "hf": failure("EntryNotFoundError", response=response(404)),
}


class Service:
    """What the mocked file systems of a test share: objects, faults to come, what was asked and how much at once."""

    def __init__(self):
        self.objects = {"b/p/x": DATA}
        self.faults = []
        self.asked = []
        self.options = []
        self.now = self.most = 0
        self.lock = threading.Lock()
        self.takes = 0.0
        self.over = threading.Event()

    def begin(self, start, end):
        with self.lock:
            self.asked.append((start, end))
            self.now += 1
            self.most = max(self.most, self.now)
            return self.faults.pop(0) if self.faults else None

    def end(self):
        with self.lock:
            self.now -= 1

    def cut(self, path, start, end, fault):
        if isinstance(fault, Exception):
            raise fault
        if path not in self.objects:
            raise FileNotFoundError(path)
        data = self.objects[path][start:end]
        return data[: len(data) // 2] if fault == "cut" else data

    def info(self, path):
        if path not in self.objects:
            raise FileNotFoundError(path)
        return {"name": path, "size": len(self.objects[path]), "type": "file", "etag": "e1"}

    def find(self, path):
        return {name: self.info(name) for name in self.objects if name.startswith(path.rstrip("/") + "/")}


def mock(service, scheme, *, on_the_loop):
    """A file system class: as gcsfs and adlfs are, on fsspec's loop, or as huggingface_hub's is, blocking."""

    class Blocking(AbstractFileSystem):
        protocol = scheme
        cachable = False

        def __init__(self, **kwargs):
            service.options.append(kwargs)
            super().__init__()

        def cat_file(self, path, start=None, end=None, **kwargs):
            fault = service.begin(start, end)
            try:
                service.over.wait(120 if fault == "late" else service.takes)
                return service.cut(self._strip_protocol(path), start, end, fault)
            finally:
                service.end()

        def info(self, path, **kwargs):
            return service.info(self._strip_protocol(path))

        def find(self, path, detail=False, **kwargs):
            return service.find(self._strip_protocol(path))

    class OnTheLoop(AsyncFileSystem):
        protocol = scheme
        cachable = False

        def __init__(self, **kwargs):
            service.options.append(kwargs)
            super().__init__()

        async def _cat_file(self, path, start=None, end=None, **kwargs):
            fault = service.begin(start, end)
            try:
                await asyncio.sleep(120 if fault == "late" else service.takes)
                return service.cut(self._strip_protocol(path), start, end, fault)
            finally:
                service.end()

        async def _info(self, path, **kwargs):
            return service.info(self._strip_protocol(path))

        async def _find(self, path, detail=False, **kwargs):
            return service.find(self._strip_protocol(path))

    return OnTheLoop if on_the_loop else Blocking


@pytest.fixture(params=["gs", "abfs", "hf"])
def scheme(request):
    return request.param


@pytest.fixture
def service(scheme, monkeypatch):
    served = Service()
    kind = mock(served, scheme, on_the_loop=scheme != "hf")
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, scheme, kind)
    yield served
    served.over.set()  # or the thread of a read that nobody waits for stays


@pytest.fixture
def store(scheme, service):
    return RemoteStore(f"{scheme}://b/p", storage_options={"token": SECRET}, retry=QUICK)


def test_ranges_are_exact(store, service):
    """The bytes asked for, to the byte; options reach the file system."""
    entry = store.info("x")
    assert [bytes(part) for part in store.read_ranges("x", SPANS, entry)] == [DATA[a:b] for a, b in SPANS]
    assert store.read("x") == DATA
    assert store.read("x", 99_000) == DATA[99_000:]
    assert store.tail("x", 10) == (entry, DATA[-10:])
    assert service.options[0]["token"] == SECRET


def test_what_will_pass_is_tried_again(store, service, scheme):
    """Each by itself, and the bytes are whole."""
    service.faults = [*PASSING[scheme], "cut"]
    entry = store.info("x")
    assert [bytes(part) for part in store.read_ranges("x", SPANS, entry)] == [DATA[a:b] for a, b in SPANS]
    assert store.counts.retries == 4
    assert len(service.asked) == len(SPANS) + 4


def test_it_ends(store, service, scheme):
    """What does not pass is an error of ours after the last attempt, which shows no secret."""
    service.faults = PASSING[scheme] * 4
    with pytest.raises(StorageError, match="tried again until the deadline") as caught:
        store.read("x", 0, 10)
    assert len(service.asked) == QUICK.attempts
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_what_will_not_pass_is_not_tried_again(store, service, scheme):
    """No right to it, or nothing there."""
    service.faults = [FORBIDDEN[scheme]]
    with pytest.raises(AccessError) as caught:
        store.read("x", 0, 10)
    assert SECRET not in str(caught.value)
    service.faults = [ABSENT[scheme]]
    with pytest.raises(NotFoundError):
        store.read("x", 0, 10)
    assert len(service.asked) == 2


def test_a_wrong_length_is_an_error(store, service):
    """An object that ends before its index says so, and one that is always cut: never a short answer."""
    with pytest.raises(IntegrityError, match="ends at 100,000"):
        store.read_ranges("x", [(99_999, 100_001)])
    entry = store.info("x")
    service.faults = ["cut"] * 10
    with pytest.raises(StorageError):
        store.read_ranges("x", [(0, 1000)], entry)


def test_a_late_one_is_sent_twice(store, service, in_turn, monkeypatch):
    """Hedged, as where answers are streamed; the first to come counts."""
    monkeypatch.setattr(remote_requests, "FIRST_BYTE_S", 120)
    for _ in range(20):
        store._reads._latencies.add(1000, 0.01, 0.01)
    in_turn(store, service.asked)
    service.faults = ["late"]
    assert store.read("x", 1000, 2000) == DATA[1000:2000]
    assert (store.counts.hedges, store.counts.hedges_won) == (1, 1)


def test_a_host_is_asked_by_so_many_at_a_time(store, service, monkeypatch):
    """Whatever the number of ranges and threads."""
    monkeypatch.setattr(remote_reads, "PARALLEL", 3)
    monkeypatch.setattr(remote_reads, "_LIMITS", {})
    service.takes = 0.002
    assert len(store.read_ranges("x", [(at, at + 10) for at in range(0, 400, 10)])) == 40
    assert 1 < service.most <= 3


def test_an_epoch(store, service, scheme):
    """A dataset there, opened and shuffled, through faults: every row once, as it is."""
    service.objects.clear()
    for shard in range(3):
        ids = np.arange(shard * 400, (shard + 1) * 400)
        sink = io.BytesIO()
        pq.write_table(pa.table({"id": ids, "square": ids**2}), sink, row_group_size=50)
        service.objects[f"b/p/{shard}.parquet"] = sink.getvalue()
    dataset = open_dataset(f"{scheme}://b/p", storage_options={"token": SECRET})
    service.faults = [None, PASSING[scheme][0], None, "cut", PASSING[scheme][1]]
    with DataLoader(dataset, 32, tail="partial", collate="numpy") as loader:
        batches = list(loader)
    ids = np.concatenate([batch["id"] for batch in batches])
    assert sorted(ids.tolist()) == list(range(1200))
    assert ids.tolist() != sorted(ids.tolist())
    assert all((batch["square"] == batch["id"] ** 2).all() for batch in batches)
    assert not service.faults


def test_the_library_is_named_where_it_is_missing(monkeypatch, scheme):
    """By the extra that brings it."""

    def missing(_):
        raise ImportError(f"no module for {scheme}")

    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    with pytest.raises(ConfigError, match={"gs": "gcs", "abfs": "azure", "hf": "hf"}[scheme]):
        RemoteStore(f"{scheme}://b/p").exists("x")
