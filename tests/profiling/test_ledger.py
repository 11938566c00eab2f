from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.events import DEVICE
from datapipe.profiling.ledger import EPOCH, FIRST, STEADY, build_ledger

MS = 1_000_000


def ledger_of(spans, **more):
    run = spans.run(**more)
    return build_ledger(run.spans, run.stages, began=run.began, ended=run.ended, wall=run.wall)


def test_a_phase_inside_a_phase_takes_its_time_from_the_outer_one(spans):
    """Exclusive times: 10 ms of forward holding 4 ms of attention count 6 and 4; what no phase covers is other."""
    spans.add("step", 0, 20).add("wait", 0, 3).add("forward", 3, 13).add("attention", 5, 9)
    ledger = ledger_of(spans)
    assert dict(zip(ledger.names, ledger.ns[0].tolist(), strict=True)) == {
        "wait": 3, "forward": 6, "attention": 4, "other": 7,
    }  # fmt: skip


@settings(deadline=None)
@given(data=st.data())
def test_every_row_sums_to_its_step(new_spans, data):
    """Whatever phases a step holds, nested or overlapping or sticking out of it, its parts sum to its wall."""
    spans = new_spans()
    t = 0
    for i in range(data.draw(st.integers(1, 6))):
        end = t + data.draw(st.integers(0, 30))
        spans.add("step", t, end, item=i)
        for _ in range(data.draw(st.integers(0, 4))):
            a, b = sorted(data.draw(st.tuples(st.integers(t, end + 3), st.integers(t, end + 3))))
            spans.add(data.draw(st.sampled_from(["wait", "forward", "backward", "mine"])), a, b)
        t = end + data.draw(st.integers(0, 5))
    ledger = ledger_of(spans, ended=t + 10)
    assert ledger.ns.sum(axis=1).tolist() == (ledger.end - ledger.start).tolist()
    assert (ledger.ns >= 0).all()
    assert sum(ledger.run.values()) + ledger.remainder == t + 10


def test_the_run_is_told_apart_by_phase(spans):
    """Start-up, first step, steady steps, epoch starts, named time between steps and teardown each have their part."""
    spans.add("epoch", 100, 140, item=0).add("step", 100, 110).add("step", 110, 120).add("step", 120, 138)
    spans.add("evaluate", 150, 170)
    spans.add("epoch", 180, 200, item=1).add("step", 180, 190).add("step", 190, 200)
    spans.add("checkpoint", 205, 209)
    ledger = ledger_of(spans, ended=230)
    assert ledger.kind.tolist() == [FIRST, STEADY, STEADY, EPOCH, STEADY]
    assert {name: ns for name, ns in ledger.run.items() if ns} == {
        "startup": 100, "first step": 10, "steady steps": 38, "first steps of epochs": 10,
        "evaluate (between steps)": 20, "between steps": 22, "checkpoint (after)": 4, "teardown": 26,
    }  # fmt: skip
    assert ledger.remainder == 0


def test_the_remainder_is_signed(spans):
    """A wall that is longer or shorter than the parts shows as such; nothing is clamped."""
    spans.add("step", 0, 50).add("step", 50, 100)
    assert ledger_of(spans, ended=100, wall=103).remainder == 3
    assert ledger_of(spans, ended=100, wall=96).remainder == -4


def test_steps_of_a_second_loop_inside_a_step_are_not_counted_twice(spans):
    """Steps that begin in an earlier one get no row; what two claim makes the remainder negative."""
    spans.add("step", 0, 50, item=0).add("step", 10, 60, item=1).add("step", 50, 90, item=2)
    ledger = ledger_of(spans)
    assert ledger.number.tolist() == [0, 2]
    assert (ledger.run["overlapping steps"], ledger.remainder, ledger.overlapping) == (50, -50, 1)


def test_an_overlapping_step_claims_what_is_free_once(spans):
    """Where it outlasts the step it began in, nobody else claims its time: not "between steps", not a phase there."""
    spans.add("step", 0, 50, item=0).add("step", 40, 70, item=1).add("forward", 55, 65).add("step", 80, 90, item=2)
    ledger = ledger_of(spans)
    assert (ledger.run["overlapping steps"], ledger.run["between steps"], ledger.remainder) == (30, 10, -10)


def test_an_evaluation_is_whole(spans):
    """Waits, forwards and steps inside an evaluation count as evaluation."""
    spans.add("step", 0, 100).add("wait", 0, 10).add("evaluate", 20, 90)
    spans.add("step", 20, 50).add("wait", 20, 40).add("forward", 40, 50)
    ledger = ledger_of(spans)
    assert dict(zip(ledger.names, ledger.ns[0].tolist(), strict=True)) == {"wait": 10, "evaluate": 70, "other": 20}


def test_the_loaders_work_inside_a_wait_belongs_to_the_wait(spans):
    """A loader that runs on the consumer's thread does not turn its wait into other parts."""
    spans.add("step", 0, 100).add("wait", 0, 60).add("fetch", 5, 30, item=0).add("h2d", 40, 55, item=0)
    spans.add("h2d", 60, 70)
    ledger = ledger_of(spans)
    assert dict(zip(ledger.names, ledger.ns[0].tolist(), strict=True)) == {"wait": 60, "h2d": 10, "other": 30}
    assert ledger.inline.sum() == 2


def test_wait_under_a_busy_device_is_hidden(spans):
    """Device spans are on another clock's time line: they fill no step, but they hide waits."""
    spans.add("step", 0, 100).add("wait", 0, 60).add("forward", 60, 70)
    spans.add("forward", 0, 45, thread=0, flags=DEVICE)
    ledger = ledger_of(spans)
    assert ledger.hidden.tolist() == [45]
    assert dict(zip(ledger.names, ledger.ns[0].tolist(), strict=True)) == {"wait": 60, "forward": 10, "other": 30}


def test_lost_steps_are_in_the_remainder(spans):
    """Where numbers say that steps are missing, their time is neither startup nor between steps; named time stays."""
    spans.add("step", 500, 600, item=4).add("step", 600, 700, item=5).add("step", 750, 800, item=9)
    spans.add("checkpoint", 710, 720)
    ledger = ledger_of(spans)
    assert ledger.remainder == 500 + 40
    assert (ledger.run["startup"], ledger.run["between steps"]) == (0, 0)
    assert ledger.run["checkpoint (between steps)"] == 10
    assert ledger.missing == 4 + 3
    assert ledger.kind.tolist() == [STEADY, STEADY, STEADY]


def test_lost_last_steps_are_in_the_remainder(spans):
    """A wait without its step tells of it; what follows its pass is teardown still."""
    spans.add("epoch", 0, 140).add("step", 0, 50, item=0).add("step", 50, 100, item=1).add("wait", 100, 110, item=2)
    spans.add("checkpoint", 150, 160)
    ledger = ledger_of(spans, ended=170)
    assert (ledger.missing, ledger.run["teardown"]) == (1, 20)
    assert ledger.remainder == 40 - 10  # the wait is known by its name


@settings(deadline=None)
@given(data=st.data())
def test_any_step_that_is_lost_shows(new_spans, data):
    """Of a run without a gap, taking away steps leaves just their time as remainder; taking none leaves none."""
    lengths = data.draw(st.lists(st.integers(1, 30), min_size=2, max_size=12))
    lost = data.draw(st.sets(st.integers(0, len(lengths) - 2), max_size=len(lengths) - 1))
    spans, t, gone = new_spans(), 7, 0
    for i, length in enumerate(lengths):
        if i in lost:
            gone += length
        else:
            spans.add("step", t, t + length, item=i)
        t += length
    ledger = ledger_of(spans, ended=t + 5)
    startup = 7 if 0 in lost else 0  # where the first step is lost nobody knows when it began
    assert (ledger.remainder, ledger.missing) == (gone + startup, len(lost))


def test_steps_recorded_elsewhere_are_not_missing(spans):
    """Numbers used up by a loop inside a step, or inside an evaluation between steps, leave no remainder."""
    spans.add("step", 0, 100, item=0).add("step", 10, 20, item=1).add("step", 20, 30, item=2)
    spans.add("evaluate", 110, 150).add("step", 115, 140, item=3).add("step", 160, 200, item=4)
    ledger = ledger_of(spans)
    assert (ledger.remainder, ledger.missing, ledger.run["between steps"]) == (0, 0, 20)


def test_the_consumer_is_the_thread_with_the_steps(spans):
    """Phases of other threads do not enter the step."""
    spans.add("step", 0, 100, thread=3).add("forward", 10, 20, thread=3).add("forward", 0, 90, thread=1)
    ledger = ledger_of(spans)
    assert ledger.thread == 3
    assert ledger.part("forward").tolist() == [10]


def test_no_steps_is_an_empty_ledger(spans):
    spans.add("fetch", 0, 10, item=0)
    ledger = ledger_of(spans, ended=40)
    assert (len(ledger.start), dict(ledger.run), ledger.remainder) == (0, {"startup": 40}, 0)


@pytest.mark.parametrize("n", [100_000])
def test_a_hundred_thousand_steps_are_one_table(spans, n):
    """A long run is analysed whole: every step with its exclusive parts."""
    run = spans.add("attention", 0, 1).run()
    dtype = run.spans.dtype
    rows = np.zeros(4 * n, dtype=dtype)
    t = np.arange(n) * 1_000
    for k, (stage, a, b) in enumerate(
        (("step", 0, 1_000), ("wait", 0, 100), ("forward", 100, 900), ("attention", 200, 300))
    ):
        part = rows[k * n : (k + 1) * n]
        part["stage"], part["start"], part["end"], part["item"] = run.stages.index(stage), t + a, t + b, np.arange(n)
    ledger = build_ledger(rows, run.stages, began=0, ended=n * 1_000, wall=n * 1_000)
    assert ledger.names == ("wait", "forward", "attention", "other")
    assert (ledger.ns == [100, 700, 100, 100]).all()
    assert ledger.remainder == 0


def test_a_step_that_writes_a_checkpoint_is_a_phase_of_its_own(spans):
    """Every tenth step writes for 50 ms: the steady step does not know of it, the run's parts do, and all adds up."""
    t = 0
    for i in range(40):
        longer = 50 * MS if i % 10 == 5 else 0
        spans.add("forward", t, t + 2 * MS)
        if longer:
            spans.add("checkpoint", t + 2 * MS, t + 2 * MS + longer)
        spans.add("step", t, t + 2 * MS + longer, item=i)
        t += 2 * MS + longer
    run = spans.run()
    ledger = build_ledger(run.spans, run.stages, began=run.began, ended=run.ended, wall=run.wall)
    assert np.flatnonzero(ledger.kind == 3).tolist() == [5, 15, 25, 35]
    assert ledger.ns[ledger.steady].sum(axis=1).max() == 2 * MS
    assert ledger.run["steps with a checkpoint"] == 4 * 52 * MS
    assert sum(ledger.run.values()) + ledger.remainder == run.wall


def test_checkpoints_at_every_step_are_the_steady_state(spans):
    """Where most steps write one, leaving them out would leave nothing."""
    for i in range(20):
        spans.add("checkpoint", i * 10 * MS, i * 10 * MS + 5 * MS)
        spans.add("step", i * 10 * MS, (i + 1) * 10 * MS, item=i)
    run = spans.run()
    ledger = build_ledger(run.spans, run.stages, began=run.began, ended=run.ended, wall=run.wall)
    assert not (ledger.kind == 3).any()
    assert ledger.part("checkpoint")[ledger.steady].mean() == 5 * MS


def test_a_run_whose_steps_are_all_an_evaluation_has_no_steps(spans):
    """Its time is evaluation's, and a checkpoint's inside it: both sum with the rest to the wall."""
    spans.add("evaluate", 10, 50).add("checkpoint", 30, 40)
    spans.add("step", 12, 20, item=0).add("wait", 12, 15, item=0).add("step", 20, 28, item=1)
    ledger = ledger_of(spans, ended=60, wall=61)
    assert len(ledger.start) == 0
    assert ledger.run == {"startup": 20, "evaluate": 30, "checkpoint": 10}
    assert ledger.remainder == 1
