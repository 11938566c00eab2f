"""Feeding a device: the protocol, on a device whose copies finish late and out of order."""

from __future__ import annotations

import random
import sys
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.device import BufferPool, feed
from datapipe.device.engine import CopyEngine
from datapipe.device.feeder import AHEAD, Feeder
from datapipe.device.transfer import check_device
from datapipe.errors import ConfigError

torch = pytest.importorskip("torch")


class Pair(NamedTuple):
    a: torch.Tensor
    b: str


class LateEngine(CopyEngine):
    """A device on the CPU whose copies read their source late, at a random moment and in any order.

    So a host buffer that is freed or filled anew before its copy was done shows in the data.
    """

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.waiting = []  # (number, source address and bytes, destination)
        self.sent = 0
        self.done = set()
        self.joined = []

    def allocate(self, nbytes):
        return memoryview(np.empty(nbytes, np.uint8).data)

    def is_ready(self, tensor):
        return False

    def send(self, tensor, dtype):
        destination = torch.full(tensor.shape, -1, dtype=dtype or tensor.dtype)
        # Only the memory is known to the copy, as to a real one: it keeps no reference.
        self.waiting.append((self.sent, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), destination))
        self.sent += 1
        self.progress(1)
        return destination

    def progress(self, most):
        for _ in range(self.random.randint(0, most)):
            if self.waiting:
                self.perform(self.random.randrange(len(self.waiting)))

    def perform(self, at):
        number, pointer, dtype, shape, destination = self.waiting.pop(at)
        import ctypes

        size = destination.numel() * torch.empty(0, dtype=dtype).element_size()
        raw = ctypes.string_at(pointer, size)
        if size:
            destination.copy_(torch.frombuffer(bytearray(raw), dtype=dtype).view(shape))
        self.done.add(number)

    def mark(self):
        return self.sent

    def passed(self, mark):
        self.progress(2)
        return self.done >= set(range(mark))

    def join(self, mark, tensors):
        self.joined.append((mark, tensors))
        while not self.done >= set(range(mark)):  # the device waits: what the compute would do
            self.perform(0)

    def finish(self):
        while self.waiting:
            self.perform(0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 12), st.booleans())
def test_every_batch_arrives_whole_however_late_its_copies(seed, count, recycle):
    """The source fills buffers anew once nobody holds them: letting go too early would deliver other rows."""
    pool = BufferPool(recycle_all=True)
    engine = LateEngine(seed)

    def batches():
        for n in range(count):
            tokens = pool.empty((4, 3), np.uint8) if recycle else np.empty((4, 3), np.uint8)
            tokens[...] = n
            engine.progress(1)
            yield {"tokens": torch.from_numpy(tokens), "name": [f"batch {n}"], "pair": (torch.tensor([n]), n)}

    got = list(Feeder(batches(), engine, widen={"tokens": torch.int64}))
    assert [b["name"] for b in got] == [[f"batch {n}"] for n in range(count)]
    for n, batch in enumerate(got):
        assert batch["tokens"].dtype == torch.int64
        assert (batch["tokens"] == n).all()
        assert batch["pair"][0].tolist() == [n]
        assert batch["pair"][1] == n
    marks = [mark for mark, _ in engine.joined]
    assert marks == sorted(marks)
    assert all(len(tensors) == 2 for _, tensors in engine.joined)


def test_the_copy_of_the_next_batch_begins_before_this_one_is_used():
    taken = []

    def batches():
        for n in range(5):
            taken.append(n)
            yield torch.tensor([n])

    feeder = Feeder(batches(), LateEngine(0))
    assert next(feeder).tolist() == [0]
    assert taken == list(range(1 + AHEAD))


def test_staging_buffers_are_recycled_not_allocated_per_batch():
    engine = LateEngine(3)
    pool = BufferPool(engine.allocate, recycle_all=True)
    for _ in Feeder((torch.zeros(100) for _ in range(200)), engine, pool=pool):
        engine.finish()
    assert pool.allocated <= 2 + 2 * AHEAD


def test_an_error_comes_after_the_batches_before_it():
    def batches():
        yield torch.tensor([1])
        yield torch.tensor([2])
        raise ValueError("the third")

    feeder = Feeder(batches(), LateEngine(1))
    assert [next(feeder).tolist(), next(feeder).tolist()] == [[1], [2]]
    for _ in range(2):
        with pytest.raises(ValueError, match="the third"):
            next(feeder)


def test_closing_waits_for_the_copies_and_closes_the_source():
    closed = []

    class Source:
        def __iter__(self):
            return self

        def __next__(self):
            return torch.tensor([1, 2])

        def close(self):
            closed.append(True)

    engine = LateEngine(5)
    feeder = Feeder(Source(), engine)
    next(feeder)
    feeder.close()
    assert closed == [True]
    assert not engine.waiting
    with pytest.raises(StopIteration):
        next(feeder)


def test_a_cpu_is_fed_by_passing_through():
    batches = [{"x": torch.tensor([1])}]
    assert next(feed(batches, "cpu")) is batches[0]


@pytest.mark.parametrize("device", ["no such device", "meta", object()])
def test_what_is_no_device_is_refused(device):
    with pytest.raises(ConfigError, match="device="):
        check_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none_is_refused_with_the_remedy():
    with pytest.raises(ConfigError, match="no CUDA device"):
        feed([], "cuda")


def test_named_tuples_keep_their_type():
    (got,) = Feeder(iter([Pair(torch.tensor([1]), "text")]), LateEngine(0))
    assert type(got) is Pair
    assert got.a.tolist() == [1]


def test_without_torch_a_device_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match="torch is not installed"):
        check_device("cpu")
