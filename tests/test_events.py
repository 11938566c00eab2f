from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe import events
from datapipe.events import FIELDS, STAGES, Recorder, Ring

values = st.integers(0, 2**62)


@given(
    stage=st.integers(0, 2**16 - 1), thread=st.integers(0, 2**16 - 1), flags=st.integers(0, 2**32 - 1),
    item=st.integers(-1, 2**62), cause=st.integers(-1, 2**62), times=st.lists(values, min_size=4, max_size=4),
    nbytes=values, cpu=values,
)  # fmt: skip
def test_a_span_reads_back_as_it_was_written(stage, thread, flags, item, cause, times, nbytes, cpu):
    """Every field, over its whole range."""
    ring = Ring(2, thread, "t")
    ring.write(stage, item, *times, nbytes, cpu, cause, flags)
    row = dict(zip([name for name, _ in FIELDS], ring.array()[0].tolist(), strict=True))
    assert row == {
        "item": item, "cause": cause, "get": times[0], "start": times[1], "end": times[2], "put": times[3],
        "bytes": nbytes, "cpu": cpu, "stage": stage, "thread": thread, "flags": flags,
    }  # fmt: skip


@given(capacity=st.integers(1, 20), written=st.integers(0, 70))
def test_a_full_ring_keeps_the_newest_and_counts_the_rest(capacity, written):
    """Oldest first, the last `capacity` of them, and what was overwritten is counted: none is forgotten silently."""
    ring = Ring(capacity, 0, "t")
    for i in range(written):
        ring.write(0, i, i, i, i, i)
    held = ring.array()["item"].tolist()
    assert held == list(range(written))[-capacity:]
    assert ring.lost == written - len(held)


def test_each_thread_has_a_ring_of_its_own():
    """Threads that write at once lose and mix nothing; spans carry their thread's number and it has its name."""
    recorder = Recorder(capacity=4096)
    gate = threading.Barrier(4)

    def work():
        ring = recorder.ring()
        gate.wait()
        for i in range(1000):
            ring.write(0, i, i, i, i, i)

    threads = [threading.Thread(target=work, name=f"worker {i}") for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spans = recorder.spans()
    assert len(spans) == 4000
    for number in range(4):
        assert spans["item"][spans["thread"] == number].tolist() == list(range(1000))
    assert sorted(recorder.threads) == [f"worker {i}" for i in range(4)]
    assert recorder.lost == 0


def test_a_thread_always_gets_the_same_ring():
    recorder = Recorder(16)
    assert recorder.ring() is recorder.ring()


def test_spans_come_sorted_by_start():
    """Whatever the order of writing, within a thread (inner spans end first) and across threads."""
    recorder = Recorder(64)
    ring = recorder.ring()
    starts = np.random.default_rng(0).permutation(50).tolist()
    for start in starts:
        ring.write(0, -1, start, start, start + 1, start + 1)
    assert recorder.spans()["start"].tolist() == sorted(starts)


def test_an_empty_recorder_has_an_empty_array():
    spans = Recorder(4).spans()
    assert (len(spans), spans.dtype) == (0, np.dtype(list(FIELDS)))


def test_lost_spans_are_counted_over_all_threads():
    recorder = Recorder(capacity=8)
    for name in ("reads", "decodes"):
        work = lambda: [recorder.ring().write(0, i, 0, 0, 0, 0) for i in range(11)]  # noqa: E731
        thread = threading.Thread(target=work, name=name)
        thread.start()
        thread.join()
    assert recorder.lost == 6
    assert len(recorder.spans()) == 16


def test_stage_numbers_are_stable_and_shared():
    """The common names have their numbers in every recorder; a new name gets one, once, from any thread."""
    recorder = Recorder(4)
    assert [recorder.stage(name) for name in STAGES] == list(range(len(STAGES)))
    number = recorder.stage("mine")
    assert recorder.stage("mine") == number == len(STAGES)
    assert recorder.stages[number] == "mine"
    assert recorder.stages[: len(STAGES)] == STAGES
    assert len(set(STAGES)) == len(STAGES)


def test_new_stages_from_many_threads_get_one_number_each():
    recorder = Recorder(4)
    gate = threading.Barrier(8)
    found = []

    def work(i):
        gate.wait()
        found.append([recorder.stage(f"stage {(i + k) % 40}") for k in range(40)])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {frozenset(numbers) for numbers in found} == {frozenset(range(len(STAGES), len(STAGES) + 40))}


def test_span_times_its_block():
    """Start and end enclose the block on `perf_counter_ns`, CPU time is what the thread used; an exception passes."""
    recorder = Recorder(4)
    before = time.perf_counter_ns()
    with pytest.raises(KeyError), recorder.span("forward", item=3, nbytes=7, cause=2):
        raise KeyError
    after = time.perf_counter_ns()
    (span,) = recorder.spans()
    assert before <= span["get"] == span["start"] <= span["end"] == span["put"] <= after
    assert (span["item"], span["bytes"], span["cause"]) == (3, 7, 2)
    assert recorder.stages[span["stage"]] == "forward"
    assert span["cpu"] >= 0


def test_recording_nests_and_ends():
    """The innermost recorder is the active one, on every thread; after the block, the one before; after all, none."""
    outer, inner = Recorder(4), Recorder(4)
    seen = []
    assert events.active() is None
    with events.recording(outer):
        with pytest.raises(ValueError, match="stop"), events.recording(inner):  # noqa: PT012  (what holds inside)
            thread = threading.Thread(target=lambda: seen.append(events.active()))
            thread.start()
            thread.join()
            assert events.active() is inner
            raise ValueError("stop")
        assert events.active() is outer
    assert events.active() is None
    assert seen == [inner]


def test_a_thread_for_every_batch_is_no_ring_for_every_batch():
    """Python numbers threads on: one that ended lends its ring to one whose name differs in the number alone."""
    recorder = Recorder(capacity=64)
    for item in range(9, 12):
        for name in (f"Thread-{item} (work)", f"other-{item}"):
            thread = threading.Thread(target=lambda i=item: recorder.ring().write(0, i, i, i, i, i), name=name)
            thread.start()
            thread.join()
    assert recorder.threads == ("Thread-9 (work)", "other-9")
    assert len(recorder.spans()) == 6


def test_names_are_a_hundred_at_most():
    """Further ones are one: a name for every batch never outgrows a span's field."""
    recorder = Recorder(capacity=16)
    numbers = {recorder.stage(f"batch {i}") for i in range(70_000)}
    assert len(recorder.stages) == max(numbers) + 1 == 101
    assert recorder.stages[-1] == "further names"


def test_a_thread_takes_over_the_ring_of_its_namesake_that_ended():
    """Threads started anew every epoch do not cost a ring each; a live thread of the same name keeps its own."""
    recorder = Recorder(capacity=64)

    def work(item):
        recorder.ring().write(0, item, item, item, item, item)

    for item in range(20):
        thread = threading.Thread(target=work, args=(item,), name="loader-0")
        thread.start()
        thread.join()
    assert len(recorder.rings()) == 1
    assert recorder.spans()["item"].tolist() == list(range(20))

    gate, go = threading.Event(), threading.Event()

    def hold():
        work(99)
        gate.set()
        go.wait()

    live = threading.Thread(target=hold, name="loader-0")
    live.start()
    gate.wait()
    other = threading.Thread(target=work, args=(100,), name="loader-0")
    other.start()
    other.join()
    go.set()
    live.join()
    assert len(recorder.rings()) == 2
    assert set(recorder.spans()["item"][-2:].tolist()) == {99, 100}
