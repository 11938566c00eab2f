"""What work costs by itself: contention of the run's own threads is taken off, what else held it up stays."""

from __future__ import annotations

import pytest

from datapipe.profiling.costs import Costs
from datapipe.profiling.lock_probe import lock_delay
from datapipe.profiling.machine_watch import Watched

MS = 1_000_000


def costs_of(spans, cores, taken=None):
    """The costs of spans that are all a loader's, on threads 1 and up; the loop is thread 0.

    `taken`: the share of the probes, one a millisecond, that find the lock taken; None: nobody asks for it.
    """
    late = [(at * MS + 1, 5 * MS * (at % 100 < 100 * (taken or 0.0))) for at in range(200)]
    watched = None
    if taken is not None:
        lock = lock_delay([ns for _, ns in late], enabled=True, switch=5e6)
        watched = Watched(counters=(), lock=lock, limit=None, probes=tuple(late))
    run = spans.add("forward", 0, 1, thread=0).run(watched=watched)
    order = [i for i, span in enumerate(run.spans) if span["thread"]]
    return Costs(run, 0, order, cores), run, order


def side_by_side(spans, cpu, n=10):
    """Two threads transform 4 ms at a time, always both, with so much CPU time each; a third, alone, at full speed."""
    for i in range(n):
        for thread in (1, 2):
            spans.add("transform", i * 8 * MS, (i * 8 + 4) * MS, item=i, thread=thread, cpu=cpu)
        spans.add("transform", (i * 8 + 4) * MS, (i * 8 + 8) * MS, item=i, thread=3, cpu=4 * MS)
    return spans


def test_two_that_get_no_more_than_one_share_a_lock(spans, new_spans):
    """Half the CPU time each, with cores to spare: the lock. All of it: none. On one core nobody can tell."""
    assert "transform" in costs_of(side_by_side(spans, 2 * MS), 4)[0].serial
    assert not costs_of(side_by_side(new_spans(), 4 * MS), 4)[0].serial
    assert not costs_of(side_by_side(new_spans(), 2 * MS), 1)[0].serial


def test_a_machine_that_others_use_too_is_no_lock(spans):
    """One thread alone has half a core, two have half a core each: other programs, not the lock."""
    for i in range(10):
        for thread, begin in ((1, 0), (2, 0), (3, 4)):
            spans.add("transform", (i * 8 + begin) * MS, (i * 8 + begin + 4) * MS, item=i, thread=thread, cpu=2 * MS)
    found = costs_of(spans, 4)[0]
    assert not found.serial
    assert found.unsure == frozenset()


def test_what_never_ran_twice_at_once_is_unsure(spans):
    for i in range(10):
        spans.add("transform", i * 4 * MS, (i * 4 + 3) * MS, item=i, thread=1 + i % 2, cpu=3 * MS)
    assert costs_of(spans, 4)[0].unsure == {"transform"}


def test_contention_is_taken_off_and_sleep_is_not(spans):
    """Two that compute on one core lose half their time to each other; what sleeps beside them keeps its time."""
    for i in range(4):
        for thread in (1, 2):
            spans.add("decode", i * 4 * MS, (i * 4 + 4) * MS, item=i, thread=thread, cpu=2 * MS)
        spans.add("fetch", i * 4 * MS, (i * 4 + 4) * MS, item=i, thread=3)
    costs, run, order = costs_of(spans, 1)
    for index in order:
        found = costs.of(index)
        if run.stages[run.spans[index]["stage"]] == "decode":
            assert found.cpu == 2 * MS
            assert found.idle == pytest.approx(0, abs=1)
        else:
            assert (found.cpu, found.idle) == (0, 4 * MS)


@pytest.mark.parametrize(("taken", "holds"), [(0.9, 1.0), (0.05, 0.0), (0.45, 0.45)])
def test_a_probe_of_the_lock_decides_what_never_ran_twice(spans, taken, holds):
    """The lock was taken whenever the stage computed: it holds it. Hardly ever: it does not. At times: for that share.

    What a loader does in Python between its work waits for that lock as well.
    """
    for i in range(50):
        spans.add("transform", i * 4 * MS, (i * 4 + 3) * MS, item=i, thread=1, cpu=3 * MS)
    found = costs_of(spans, 4, taken=taken)[0]
    assert set(found.serial) == ({"transform", "queue", "prepare", "gather", "collate"} if holds else set())
    assert found.serial.get("transform", 0.0) == pytest.approx(holds, abs=0.06)
    assert found.unsure == set()
    assert found.switch == (5e6 if holds else 0)


def test_probes_are_believed_before_two_that_get_no_more_than_one(spans):
    """Two threads side by side get half a core each, and no probe finds the lock taken: other programs, no lock."""
    found = costs_of(side_by_side(spans, 2 * MS, n=25), 4, taken=0.02)[0]
    assert not found.serial


def test_a_sleep_that_ended_under_the_lock_was_shorter(spans):
    """A loop that slept 3 ms of the holder's 19 went on after 8: the switch interval was not the sleep's."""
    for i in range(10):
        spans.add("transform", i * 20 * MS, (i * 20 + 19) * MS, item=i, thread=1, cpu=19 * MS)
        spans.add("forward", i * 20 * MS + 4 * MS, i * 20 * MS + 12 * MS)
    found = costs_of(spans, 4, taken=0.9)[0]
    assert found.own("forward", 8 * MS, 4 * MS, 12 * MS).idle == 3 * MS


def test_short_work_after_a_holder_does_not_hide_what_was_waited_for(spans):
    """The loop gets the lock as the transform ends, and the next batch is being gathered by then: half an interval."""
    for i in range(10):
        t = i * 20 * MS
        spans.add("transform", t, t + 6 * MS, item=i, thread=1, cpu=6 * MS)
        spans.add("gather", t + 6 * MS + MS // 10, t + 7 * MS, item=i + 1, thread=1, cpu=MS // 2)
        spans.add("forward", t, t + 6 * MS + MS // 5)
    found = costs_of(spans, 4, taken=0.9)[0]
    assert found.own("forward", 6 * MS + MS // 5, 0, 6 * MS + MS // 5).idle == pytest.approx(3.7 * MS)


@pytest.mark.filterwarnings("error")
def test_spans_of_no_length_show_nothing_of_a_lock(spans):
    """A stage that computes on the loop's thread, and whose loader's spans take no time, is not said to hold it."""
    spans.add("transform", 0, 4 * MS, cpu=4 * MS).add("transform", MS, MS, thread=1).add("transform", MS, MS, thread=2)
    costs, _, _ = costs_of(spans, cores=4)
    assert "transform" not in costs.serial
