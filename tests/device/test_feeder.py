"""Feeding a device: the protocol, on a device whose copies finish late and out of order."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from datapipe.device import BufferPool
from datapipe.device.feeder import AHEAD, Feeder
from datapipe.device.in_flight import InFlight
from datapipe.device.ring import PinnedRing

torch = pytest.importorskip("torch")

ROWS, WIDTH = 4, 150
MOST = 1 << 13  # some six batches: the ring runs full, and plain memory has to serve


class Race(RuleBasedStateMachine):
    """A loader's buffers under a device that copies late: filled, sent, held, dropped and filled anew in any order.

    Every buffer is poisoned when it is lent, then filled: a copy that read it too early or too late shows in a batch.
    """

    engines = None  # the class of them

    def __init__(self):
        super().__init__()
        self.engine = self.engines(7, page_locked=True, most=MOST, lazy=True)
        self.ring = PinnedRing(self.engine.allocate, most_bytes=MOST)
        self.pool = BufferPool(self.ring.take, recycle_all=True, idle_bytes=MOST)
        self.in_flight = InFlight(self.engine)
        self.made = self.expected = 0
        self.given = []  # (number, batch on the device), kept by a slow consumer
        self.kept = []  # (number, host array), kept by somebody who should not be surprised either
        self.feeder = self.begin()

    def begin(self, ahead=1):
        return Feeder(
            self.source(), self.engine, widen={"x": torch.int64}, pool=self.pool, in_flight=self.in_flight, ahead=ahead
        )

    def source(self):
        while True:
            array = self.pool.empty((ROWS, WIDTH), np.uint8)
            array[...] = 0xEE
            self.engine.progress(2)
            array[...] = self.made % 200
            number, self.made = self.made, self.made + 1
            if number % 5 == 0:
                self.kept.append((number, array[1:]))
            # One that lies in the ring, one that has to be staged, the same one again, and text.
            pageable = torch.full((3,), number, dtype=torch.int32)
            yield {"x": torch.from_numpy(array), "deep": [pageable, (pageable, "text")], "name": [str(number)]}

    @rule(ahead=st.integers(0, 3))
    def abandon_the_iterator(self, ahead):
        finishes = self.engine.finishes
        self.feeder = self.begin(ahead)
        self.expected = self.made
        assert self.engine.finishes == finishes  # nobody waits for the device

    @rule()
    def close_the_iterator(self):
        self.feeder.close()
        self.feeder = self.begin()
        self.expected = self.made

    @rule(times=st.integers(1, 4))
    def take(self, times):
        for _ in range(times):
            self.given.append((self.expected, next(self.feeder)))
            self.expected += 1

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def drop(self, data):
        del self.given[data.draw(st.integers(0, len(self.given) - 1))]

    @precondition(lambda self: self.kept)
    @rule()
    def drop_on_the_host(self):
        self.kept.pop(0)

    @rule(copies=st.integers(1, 8))
    def device_goes_on(self, copies):
        for _ in range(copies):
            self.engine.perform()

    @rule(lazy=st.booleans())
    def device_is_busy(self, lazy):
        self.engine.lazy = lazy

    @rule()
    def compute(self):
        self.engine.compute()
        for number, batch in self.given:
            assert batch["x"].dtype == torch.int64
            assert (batch["x"] == number % 200).all()
            assert batch["deep"][0] is batch["deep"][1][0]
            assert batch["deep"][0].tolist() == [number] * 3
            assert batch["name"] == [str(number)]

    @invariant()
    def what_is_held_on_the_host_has_not_changed(self):
        assert all((array == number % 200).all() for number, array in self.kept)
        assert self.ring.nbytes <= MOST

    def teardown(self):
        self.engine.compute()
        self.compute()
        self.feeder.close()
        self.given.clear()
        self.kept.clear()
        del self.feeder
        assert self.pool.lent == 0
        assert self.in_flight.batches == 0


def test_no_buffer_is_filled_anew_before_its_copy_and_its_holders_are_done(late_engine):
    """Slow consumers, held references, iterators dropped midway: every batch computed on holds its own rows."""
    from hypothesis.stateful import run_state_machine_as_test

    Race.engines = late_engine
    run_state_machine_as_test(Race, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))


def test_the_race_test_sees_a_buffer_freed_too_early(late_engine, monkeypatch):
    """What it is worth: with nothing held under way, other rows are delivered."""
    monkeypatch.setattr(InFlight, "hold", lambda self, mark, tensors: None)
    engine = late_engine(lazy=True, page_locked=True)
    pool = BufferPool(PinnedRing(engine.allocate, most_bytes=MOST).take, recycle_all=True)

    def batches():
        for n in range(4):
            array = pool.empty((ROWS, WIDTH), np.uint8)
            array[...] = n
            yield torch.from_numpy(array)

    got = list(Feeder(batches(), engine, pool=pool))
    engine.compute()
    assert [int(batch[0, 0]) for batch in got] != [0, 1, 2, 3]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 12), ahead=st.integers(0, 4))
def test_every_batch_arrives_whole_and_in_order(late_engine, seed, count, ahead):
    engine = late_engine(seed)
    feeder = Feeder((torch.tensor([n]) for n in range(count)), engine, ahead=ahead)
    got = list(feeder)
    engine.compute()
    assert [batch.tolist() for batch in got] == [[n] for n in range(count)]
    marks = [mark for mark, _ in engine.joined]
    assert marks == sorted(marks)
    assert engine.finishes == 0  # the host never waited


class Meter:
    """A source that says whether its next batch is made."""

    def __init__(self, made=()):
        self.taken = 0
        self.ready = True
        self.made = made

    def __iter__(self):
        return self

    def __next__(self):
        self.taken += 1
        return torch.zeros(250, dtype=torch.float32)  # 1000 bytes


@pytest.mark.parametrize(
    ("ahead", "ahead_bytes", "taken"),
    [(0, None, 1), (1, None, 2), (3, None, 4), (3, 2000, 3), (3, 2999, 3), (3, 999, 1), (0, 10**6, 1)],
)
def test_no_more_is_sent_ahead_than_asked_for(late_engine, ahead, ahead_bytes, taken):
    """In batches and in bytes on the device, beyond the batch that is given."""
    source = Meter()
    feeder = Feeder(source, late_engine(), ahead=ahead, ahead_bytes=ahead_bytes)
    for given_so_far in range(3):
        next(feeder)
        assert source.taken == taken + given_so_far


def test_bytes_ahead_are_those_on_the_device(late_engine):
    """uint8 widened to int64 takes eight times the room there."""
    source = iter([{"x": torch.zeros(100, dtype=torch.uint8)}] * 9)
    feeder = Feeder(source, late_engine(), widen={"x": torch.int64}, ahead=9, ahead_bytes=1600)
    next(feeder)
    assert len(list(source)) == 9 - 3


def test_what_is_not_made_yet_is_not_waited_for(late_engine):
    """A batch on the device is given at once; the next one is sent when it is made, or when there is nothing else."""
    source = Meter()
    feeder = Feeder(source, late_engine(), ahead=2)
    source.ready = False
    next(feeder)
    assert source.taken == 1
    source.ready = True
    next(feeder)
    assert source.taken == 4
    source.ready = False
    next(feeder)
    next(feeder)
    assert source.taken == 4
    next(feeder)
    assert source.taken == 5


def test_the_copy_of_the_next_batch_begins_before_this_one_is_used(late_engine):
    taken = []

    def batches():
        for n in range(5):
            taken.append(n)
            yield torch.tensor([n])

    engine = late_engine()
    feeder = Feeder(batches(), engine)
    first = next(feeder)
    engine.compute()
    assert first.tolist() == [0]
    assert taken == list(range(1 + AHEAD))


def test_staging_buffers_are_recycled_not_allocated_per_batch(late_engine):
    engine = late_engine(3)
    pool = BufferPool(engine.allocate, recycle_all=True)
    for _ in Feeder((torch.zeros(100) for _ in range(200)), engine, pool=pool):
        engine.finish()
    assert pool.allocated <= 2 + 2 * AHEAD


def test_without_room_a_batch_is_sent_from_where_it_lies(late_engine):
    """No page-locked memory left: not copied twice, held until it is read, and what has gaps is made whole."""
    engine = late_engine(most=0, lazy=True, page_locked=True)
    whole = torch.arange(6.0)
    address = whole.data_ptr()
    feeder = Feeder(iter([[whole, torch.arange(6.0).reshape(2, 3).T]]), engine)
    del whole
    got = next(feeder)
    assert engine.waiting[0][1] == address
    np.full(6, -1.0, np.float32)  # what was freed would be given to this
    engine.compute()
    assert got[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert got[1].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_an_error_comes_after_the_batches_before_it(late_engine):
    def batches():
        yield torch.tensor([1])
        yield torch.tensor([2])
        raise ValueError("the third")

    engine = late_engine(1)
    feeder = Feeder(batches(), engine)
    got = [next(feeder), next(feeder)]
    engine.compute()
    assert [batch.tolist() for batch in got] == [[1], [2]]
    for _ in range(2):
        with pytest.raises(ValueError, match="the third"):
            next(feeder)


def test_a_copy_that_fails_midway_frees_nothing_under_those_begun(late_engine, monkeypatch):
    """The device is out of memory at the second tensor: the error comes, and the first one's buffer stays held."""
    engine = late_engine(lazy=True, page_locked=True)
    pool = BufferPool(engine.allocate, recycle_all=True)
    send = engine.send

    def failing(tensor, dtype):
        if engine.sent == 1:
            raise RuntimeError("out of memory")
        return send(tensor, dtype)

    monkeypatch.setattr(engine, "send", failing)
    feeder = Feeder(iter([[torch.zeros(9), torch.ones(9)]]), engine, pool=pool)
    with pytest.raises(RuntimeError, match="out of memory"):
        next(feeder)
    assert pool.lent
    feeder.close()
    del feeder
    assert pool.lent == 0


def test_closing_waits_for_the_copies_and_closes_the_source(late_engine):
    closed = []

    class Source(Meter):
        def close(self):
            closed.append(True)

    engine = late_engine(5)
    feeder = Feeder(Source(), engine)
    next(feeder)
    feeder.close()
    assert closed == [True]
    assert not engine.waiting
    with pytest.raises(StopIteration):
        next(feeder)


def test_dropping_the_last_who_knows_of_a_buffer_waits_for_its_copy(late_engine):
    """`feed` without a loader: its iterator dropped midway, the memory is freed when the device has read it."""
    engine = late_engine(lazy=True)
    feeder = Feeder(Meter(), engine)
    next(feeder)
    assert engine.finishes == 0
    del feeder
    assert engine.finishes == 1


def test_a_device_that_is_gone_at_exit_is_no_news(late_engine, monkeypatch):
    """The interpreter sets module names to None, and the driver may have ended: nothing is printed."""
    import datapipe.device.in_flight as module

    engine = late_engine(lazy=True)

    def gone():
        raise RuntimeError("driver shutting down")

    monkeypatch.setattr(engine, "finish", gone)
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)  # what a finalizer raises goes there
    feeder = Feeder(Meter(), engine)
    next(feeder)
    for name in [name for name in vars(module) if not name.startswith("__")]:
        monkeypatch.setattr(module, name, None)
    del feeder
    assert told == []
