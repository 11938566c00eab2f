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


def test_each_part_of_a_step_is_recorded_once_apart_and_inside_it(run, make_loader):
    """Spans of a step lie inside it, none over another; steps do not overlap; one epoch span a pass.

    The checkpoint of step 6 is waited for in step 7.
    """
    with events.recording(events.Recorder()) as recorder:
        run(make_loader(batches=5), steps=12, accumulate=2, checkpoint_every=6)
    spans, number = recorder.spans(), recorder.stage
    count = {name: int((spans["stage"] == number(name)).sum()) for name in recorder.stages}
    assert {name: n for name, n in count.items() if n} == {
        "step": 12, "wait": 24, "forward": 24, "backward": 24, "optimizer": 24, "checkpoint": 3, "epoch": 5,
        "startup": 1,
    }  # fmt: skip
    steps = spans[spans["stage"] == number("step")]
    assert steps["item"].tolist() == list(range(12))
    assert (steps["start"][1:] >= steps["end"][:-1]).all()
    for step in steps:
        named = ("wait", "forward", "backward", "optimizer", "checkpoint")
        parts = spans[(spans["item"] == step["item"]) & [recorder.stages[s] in named for s in spans["stage"]]]
        assert (parts["start"] >= step["start"]).all()
        assert (parts["end"] <= step["end"]).all()
        assert (parts["start"][1:] >= parts["end"][:-1]).all()


def test_unprofiled_nothing_is_recorded(run):
    """A recorder that is not active stays empty, and the numbers are those of the profiled run."""
    plain = run(steps=3)
    with events.recording(events.Recorder()):
        profiled = run(steps=3, resume="fresh")
    assert events.active() is None
    assert plain.losses == profiled.losses
    assert plain.model is not profiled.model


@pytest.mark.cuda
def test_on_cuda_the_device_is_clocked_too(cuda, run):
    """Host and device spans of a step, the device's between its launch and the next sync."""
    with events.recording(events.Recorder()) as recorder:
        run(steps=6, device="cuda", precision="auto")
    spans = recorder.spans()
    device = spans[spans["flags"] & events.DEVICE != 0]
    assert {recorder.stages[s] for s in device["stage"]} == {"forward", "backward", "optimizer"}
    assert len(spans[spans["stage"] == recorder.stage("h2d")]) == 6
    assert len(spans[spans["stage"] == recorder.stage("sync")]) == 6
    assert (device["end"] >= device["start"]).all()
    assert (device["start"] >= spans["start"].min()).all()
