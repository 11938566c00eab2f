"""What work costs by itself: contention of the run's own threads is taken off, what else held it up stays."""

from __future__ import annotations

import pytest

from datapipe.profiling.costs import Costs

MS = 1_000_000


def costs_of(spans, cores):
    """The costs of spans that are all a loader's, on threads 1 and up; the loop is thread 0."""
    run = spans.add("forward", 0, 1, thread=0).run()
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
    assert costs_of(side_by_side(spans, 2 * MS), 4)[0].serial == {"transform"}
    assert costs_of(side_by_side(new_spans(), 4 * MS), 4)[0].serial == frozenset()
    assert costs_of(side_by_side(new_spans(), 2 * MS), 1)[0].serial == frozenset()


def test_a_machine_that_others_use_too_is_no_lock(spans):
    """One thread alone has half a core, two have half a core each: other programs, not the lock."""
    for i in range(10):
        for thread, begin in ((1, 0), (2, 0), (3, 4)):
            spans.add("transform", (i * 8 + begin) * MS, (i * 8 + begin + 4) * MS, item=i, thread=thread, cpu=2 * MS)
    found = costs_of(spans, 4)[0]
    assert found.serial == frozenset()
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
