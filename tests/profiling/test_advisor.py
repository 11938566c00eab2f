"""Which fixes a run has: pipelines with a known bottleneck."""

import numpy as np
import pytest

from datapipe.profiling.advice import LEAST
from datapipe.profiling.advisor import advise
from datapipe.profiling.loader_facts import DATAPIPE, TORCH
from datapipe.profiling.what_if import work_of

MS = 1_000_000


def inline_run(new_spans, n=40, fetch=8.0, compute=2.0, **notes):
    """A torch loader without workers: the loop's own thread makes each batch."""
    spans, t = new_spans(), 0
    for i in range(n):
        got, done = t + round(fetch * MS), t + round((fetch + compute) * MS)
        spans.add("dataset", t, got, item=i, cpu=0)
        spans.add("wait", t, got, item=i, cause=i)
        spans.add("forward", got, done)
        spans.add("step", t, done, item=i)
        t = done
    facts = {"loader": TORCH, "loader.num_workers": 0, "loader.pin_memory": False, **notes}
    return spans.run(notes=facts, environment={"cpus usable": 4})


def test_a_loader_that_loads_in_the_loop_is_told_to_have_workers(new_spans):
    """Loading waits 8 of 10 ms: with enough workers beside it the step nears the 2 ms of compute."""
    best = advise(inline_run(new_spans)).fixes[0]
    assert best.options["num_workers"] in (4, 8)
    assert best.gain == pytest.approx(0.8, abs=0.05)
    assert best.low <= best.step_ns <= best.high


def test_no_more_workers_are_advised_than_help(new_spans):
    """Where one worker hides all loading, a second is not advised: each costs memory."""
    best = advise(inline_run(new_spans, fetch=1.0, compute=9.0)).fixes[0]
    assert best.options["num_workers"] == 1


def test_a_run_that_hardly_loads_is_left_alone(new_spans):
    """No fix below the least gain, and it is said what compute would bring."""
    advice = advise(inline_run(new_spans, fetch=0.05, compute=9.0))
    assert advice.fixes == ()
    assert "Nothing about the loader" in advice.sentence
    assert "Compute 2× faster" in advice.sentence


def test_an_unknown_loader_is_given_no_options(new_spans):
    """What cannot be set is not advised."""
    run = inline_run(new_spans, loader=None)
    assert advise(run).fixes == ()
    assert "No advice" in advise(run).sentence


def test_too_few_steps_have_no_advice(new_spans):
    """There is nothing to replay."""
    assert advise(inline_run(new_spans, n=3)) is None


def test_fixes_come_in_order_of_gain_over_effort_and_all_help(pipeline):
    """Every fix of datapipe's own loader gains the least, with its interval, and the order is that of `rank`."""
    services = np.full((3, 60), 1.0 * MS)
    services[1] = 6.0 * MS
    run = pipeline(services=services, compute=np.full(60, 2.0 * MS)).spans().run(
        notes={"loader": DATAPIPE, "loader.prefetch": 4}, environment={"cpus usable": 8}
    )  # fmt: skip
    advice = advise(run)
    ranks = [fix.rank for fix in advice.fixes]
    assert ranks
    assert ranks == sorted(ranks, reverse=True)
    assert all(fix.gain >= LEAST and fix.high < fix.recorded_ns for fix in advice.fixes)
    assert advice == advise(run)


def test_a_long_run_is_judged_by_whole_steps_of_its_beginning(new_spans, monkeypatch):
    """Advice on a long run costs what advice on its first steps does, and comes to the same."""
    short, long = inline_run(new_spans, n=100), inline_run(new_spans, n=400)
    monkeypatch.setattr("datapipe.profiling.advisor.MOST_SPANS", 400)
    seen = []
    monkeypatch.setattr("datapipe.profiling.advisor.work_of", lambda run: seen.append(run) or work_of(run))
    assert advise(long).fixes[0].options == advise(short).fixes[0].options
    steps = [int((run.spans["stage"] == run.stages.index("step")).sum()) for run in seen]
    assert steps[0] <= 101
