"""Waiting for the lock is told from sleeping, and charged to the stage that held it."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe.profiling.analysis import summarise
from datapipe.profiling.lock_probe import lock_delay
from datapipe.profiling.lock_waits import holds, locked_out
from datapipe.profiling.machine_watch import Watched

MS = 1_000_000


def locked_run(spans, *, late, n=40, holds=7, asleep=2):
    """A loop whose device sleeps 2 ms, beside a transform on a thread of its own that always holds the lock.

    The loop gets the lock after the switch interval of 5 ms more, and finds its batch ready.
    """
    for i in range(n):
        t = i * holds * MS
        spans.add("transform", t, t + holds * MS, item=i + 1, thread=1, cpu=holds * MS)
        spans.add("wait", t, t + MS // 20, item=i, cause=i)
        spans.add("forward", t + MS // 20, t + holds * MS)
        spans.add("step", t, t + holds * MS, item=i)
    probes = tuple(((holds * i + 3) * MS, late) for i in range(n))
    lock = lock_delay([late] * n, enabled=True, switch=5e6)
    return spans.run(watched=Watched(counters=(), lock=lock, limit=None, probes=probes))


def test_the_loop_waits_for_the_stage_that_holds_the_lock(spans, new_spans):
    """5 of the forward's 7 ms waited for the lock: the transform's doing, on the path too. A free lock: its own 7."""
    found = summarise(locked_run(spans, late=5 * MS))
    (wait,) = found.lock_waits
    assert (wait.stage, wait.part) == ("transform", "forward")
    assert wait.mean == pytest.approx(5 * MS, rel=0.03)
    assert next(iter(found.path_ns)) == "transform"
    assert found.verdict.kind == "input-bound"
    assert found.verdict.bottleneck == "transform"
    assert any("lock" in line for line in found.verdict.evidence)
    assert sum(part.mean for part in found.parts) == found.step.mean  # the ledger is as measured
    free = summarise(locked_run(new_spans(), late=0))
    assert free.lock_waits == ()
    assert next(iter(free.path_ns)) == "forward"
    assert free.verdict.kind == "not input-bound"


@pytest.mark.parametrize(
    ("end", "waited"),
    [
        (7, 5),  # the holder, at it for 7 ms, runs on: it was made to let go
        (3, 1),  # it had begun less than an interval before: what is more than the 2 ms the others slept
        (21, 0),  # nobody held it near the end
        (10.1, 8.1),  # it let go just before
    ],
)
def test_what_a_span_waited_follows_from_its_end(spans, end, waited):
    """The holder runs from 0 to 10 ms; three others of the stage show that it sleeps for 2 ms."""
    spans.add("transform", 0, 10 * MS, thread=1, cpu=10 * MS)
    spans.add("forward", 0, round(end * MS))
    for i in range(3):
        spans.add("forward", (30 + 3 * i) * MS, (32 + 3 * i) * MS)
    run = spans.run()
    holding = run.spans["thread"] == 1
    found, through = locked_out(run, holding, ~holding)
    mine = np.flatnonzero(run.spans["end"] == round(end * MS))
    assert found[mine[run.spans["start"][mine] == 0]] == pytest.approx([waited * MS])
    assert through.any() == (end == 10.1)
    assert (found <= run.spans["end"] - run.spans["start"]).all()


def test_odd_spans_do_not_say_how_long_a_stage_sleeps(spans):
    """Three that were off the core for longer than those that may have waited show nothing: half of the hold is taken.

    Their 12 ms would make the others' 6 ms sleep alone, although each of them ended as the holder let go.
    """
    for i in range(9):
        t = 20 * i * MS
        spans.add("transform", t, t + 5 * MS, thread=1, cpu=5 * MS)
        spans.add("forward", t - MS // 2, t + 5 * MS + MS // 2)
    for i in range(3):
        t = (200 + 20 * i) * MS
        spans.add("forward", t, t + 12 * MS)
    run = spans.run()
    holding = run.spans["thread"] == 1
    found, _ = locked_out(run, holding, ~holding)
    short = ~holding & (run.spans["end"] - run.spans["start"] == 6 * MS)
    assert found[short] == pytest.approx([2.5 * MS] * 9)
    assert not found[~short].any()


def test_work_on_a_core_waits_for_no_lock(spans):
    """A part of the loop that computes is not asleep: nothing of it is taken for waiting."""
    spans.add("transform", 0, 10 * MS, thread=1, cpu=10 * MS).add("forward", 0, 7 * MS, cpu=6 * MS)
    run = spans.run()
    holding = run.spans["thread"] == 1
    assert not locked_out(run, holding, ~holding)[0].any()


def test_who_waits_until_the_holder_is_through_waits_for_its_work(spans):
    """The device sleeps 5 ms of the transform's 9, and the loop goes on as it ends: all of the path is the transform's.

    Charging the wait alone would leave the larger part of the step to a device that could be twice as slow.
    """
    for i in range(40):
        t = 9 * i * MS
        spans.add("transform", t + MS // 10, t + 9 * MS, item=i + 1, thread=1, cpu=9 * MS)
        spans.add("wait", t + MS // 10, t + MS // 5, item=i, cause=i)
        spans.add("forward", t + MS // 5, t + 9 * MS + MS // 10)
        spans.add("step", t + MS // 10, t + 9 * MS + MS // 10, item=i)
    for i in range(4):  # after the loader's last: how long the device sleeps by itself
        t = (9 * 40 + 6 * i) * MS + MS // 10
        spans.add("wait", t, t + MS // 10, item=40 + i).add("forward", t + MS // 10, t + 5 * MS)
        spans.add("step", t, t + 5 * MS, item=40 + i)
    probes = tuple(((9 * i + 3) * MS, 5 * MS) for i in range(40))
    run = spans.run(
        watched=Watched(
            counters=(), lock=lock_delay([5 * MS] * 40, enabled=True, switch=5e6), limit=None, probes=probes
        )
    )
    path = summarise(run).path_ns
    assert path["transform"] > 0.9 * sum(path.values())


def test_one_at_a_time_holds_the_lock(spans):
    """Spans of two holders that overlap are cut: of two at once the later begun has it, the other what is left."""
    spans.add("filter", 0, 100, thread=1)
    spans.add("transform", 50, 60, thread=2)
    spans.add("transform", 90, 120, thread=2)
    run = spans.run()
    assert holds(run, run.spans["thread"] > 0) == [
        (0, 50, "filter"),
        (50, 60, "transform"),
        (60, 90, "filter"),
        (90, 100, "transform"),
        (100, 120, "transform"),
    ]
