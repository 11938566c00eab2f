"""The parts of a step: clocked for the log, recorded for a profile, on the device's own clock where there is one."""

import time

import pytest
import torch

from datapipe import events
from datapipe.train import phases as module
from datapipe.train.phases import Phases

CPU = torch.device("cpu")


def test_parts_are_summed_by_name_within_a_step():
    """Without a recorder too; a new step begins at nothing."""
    phases = Phases(CPU)
    phases.begin_step(0, time.perf_counter_ns())
    for name in ("wait", "forward", "forward"):
        with phases(name):
            sum(range(1000))
    spent = dict(phases.spent)
    assert set(spent) == {"wait", "forward"}
    assert 0 < sum(spent.values()) <= phases.elapsed
    phases.begin_step(1, time.perf_counter_ns())
    assert phases.spent == {}


def test_a_part_that_fails_is_no_part():
    """The StopIteration at an epoch's end is not a wait for a batch."""
    with events.recording(events.Recorder()) as recorder:
        phases = Phases(CPU)
        phases.begin_step(3, time.perf_counter_ns())
        with pytest.raises(StopIteration), phases("wait"):
            raise StopIteration
        assert phases.spent == {}
        with phases("wait"):
            pass
        end = phases.end_step()
    spans = recorder.spans()
    assert [(recorder.stages[s["stage"]], int(s["item"])) for s in spans] == [("step", 3), ("wait", 3)]
    assert spans["end"][0] <= end


class Event:
    """A CUDA event of a device whose clock reads `now` ms."""

    now = 0.0

    def __init__(self):
        self.at = Event.now

    def elapsed_time(self, later):
        return later.at - self.at


def test_device_spans_are_placed_by_the_last_sync(monkeypatch):
    """Events 2, 5 and 9 ms before the sync become spans that end with it, flagged, on the host's clock."""
    monkeypatch.setattr(module, "_mark", Event)
    with events.recording(events.Recorder()) as recorder:
        phases = Phases(torch.device("cuda"))
        phases.begin_step(7, time.perf_counter_ns())
        for name, length in (("forward", 4.0), ("backward", 5.0)):
            part = phases(name)
            part.__enter__()
            Event.now += length
            part.__exit__(None, None, None)
        with phases("wait"):
            pass
        before = time.perf_counter_ns()
        phases.synced()
        after = time.perf_counter_ns()
        phases.synced()  # nothing is written twice
    spans = recorder.spans()
    device = spans[spans["flags"] == events.DEVICE]
    assert [recorder.stages[s] for s in device["stage"]] == ["forward", "backward"]
    assert (device["end"] - device["start"]).tolist() == [4_000_000, 5_000_000]
    assert before <= device["end"][1] <= after
    assert device["end"][0] == device["start"][1]
    assert len(spans) == 5
    assert set(device["item"]) == {7}
