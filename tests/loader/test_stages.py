"""Spans: what each stage did, when a recorder is active; and no clock read when none is."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe import events
from datapipe.loader import DataLoader
from datapipe.loader import stages as stages_module
from datapipe.loader import workshop as workshop_module


def spans_of(recorder):
    spans = recorder.spans()
    names = recorder.stages
    return {
        name: spans[spans["stage"] == number] for number, name in enumerate(names) if (spans["stage"] == number).any()
    }


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("cheap", [True, False])
def test_each_block_and_each_batch_leave_their_spans(memory, monkeypatch, prefetch, cheap):
    """Items: the block's place in read order up to decode, the batch's number from there on, counted over epochs."""
    monkeypatch.setattr(workshop_module, "CHEAP_NS", 1 << 60 if cheap else 0)
    loader = DataLoader(
        memory([10] * 6), 4, collate="numpy", prefetch=prefetch, num_threads=2, transform=lambda b: b, lanes=2, window=1
    )
    with events.recording(events.Recorder()) as recorder:
        list(loader)
        list(loader)
    # The third epoch may have been begun ahead by now: its spans have numbers from 12 (blocks) and 30 (batches) on.
    ends = dict.fromkeys(("fetch", "decode"), 12)
    found = {name: spans[spans["item"] < ends.get(name, 30)] for name, spans in spans_of(recorder).items()}
    assert sorted(found["fetch"]["item"].tolist()) == list(range(12))
    assert sorted(found["decode"]["item"].tolist()) == list(range(12))
    for stage in ("gather", "transform", "collate"):
        assert sorted(found[stage]["item"].tolist()) == list(range(30)), stage
    assert (found["decode"]["cause"] == found["decode"]["item"]).all()
    assert (found["decode"]["bytes"] == 80).all()
    assert (found["gather"]["bytes"] == 32).all()
    assert set(found["prepare"]["cause"].tolist()) <= set(range(-1, 12))
    for stage, spans in found.items():
        assert (spans["get"] <= spans["start"]).all(), stage
        assert (spans["start"] <= spans["end"]).all(), stage
        assert (spans["end"] <= spans["put"]).all(), stage


def test_a_gather_names_the_block_that_let_it_begin(memory):
    loader = DataLoader(memory([10] * 4), 10, collate="numpy", prefetch=0, shuffle=False)
    with events.recording(events.Recorder()) as recorder:
        list(loader)
    found = spans_of(recorder)
    assert found["gather"]["cause"].tolist() == [0, 1, 2, 3]
    ends = dict(zip(found["decode"]["item"].tolist(), found["decode"]["end"].tolist(), strict=True))
    assert all(ends[c] <= start for c, start in zip(found["gather"]["cause"], found["gather"]["start"], strict=True))


def test_waiting_for_room_is_recorded_as_backpressure(memory, monkeypatch):
    """Threads that could go on but for the prefetch limit leave a `queue` span for the batch they then begin."""
    monkeypatch.setattr(workshop_module, "CHEAP_NS", 0)
    loader = DataLoader(memory([40]), 4, collate="numpy", prefetch=1, num_threads=1)
    with events.recording(events.Recorder()) as recorder:
        iterator = iter(loader)
        for _ in range(3):
            next(iterator)
            while not loader.stats()["ready"]:  # the thread waits for room, is given it, and makes this one
                pass
        list(iterator)
    queue = spans_of(recorder).get("queue", np.empty(0))
    assert len(queue)
    assert (queue["start"] <= queue["end"]).all()
    assert set(queue["item"].tolist()) <= set(range(10))


def test_without_a_recorder_stages_read_no_clock(memory, monkeypatch):
    def no_clock():
        raise AssertionError("a clock was read")

    monkeypatch.setattr(stages_module.time, "thread_time_ns", no_clock)
    monkeypatch.setattr(stages_module.time, "perf_counter_ns", no_clock)
    assert len(list(DataLoader(memory([10] * 4), 4, collate="numpy", prefetch=0))) == 10
