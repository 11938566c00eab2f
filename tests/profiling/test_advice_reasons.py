"""A run that waits for its loader and is advised nothing is told why."""

from __future__ import annotations

import pytest

from datapipe.profiling.advice import Fix
from datapipe.profiling.advice_reasons import nothing_gains
from datapipe.profiling.loader_facts import TORCH
from datapipe.profiling.machine_watch import Watched
from datapipe.profiling.process_counters import Counters
from datapipe.profiling.what_if import work_of

MS = 1_000_000


def waiting_run(spans, *, cpu=0.0, n=30, wait=9, workers=2, others=None, seen=True):
    """Steps of 10 ms that wait for 9 of them while two workers make batches, each on a core for `cpu` of its time."""
    for i in range(n):
        t = i * 10 * MS
        for thread in (1, 2) if seen else ():
            spans.add("dataset", t, t + 9 * MS, item=2 * i + thread, thread=thread, cpu=round(9 * MS * cpu))
        spans.add("wait", t, t + wait * MS, item=i, cause=2 * i + 1 if seen else -1)
        spans.add("forward", t + wait * MS, t + 10 * MS, cpu=MS).add("step", t, t + 10 * MS, item=i)
    watched = None
    if others is not None:
        wall = n * 10 * MS
        last = Counters(at=wall, cpu=0, machine=round(others * wall))
        watched = Watched(counters=(Counters(at=0, cpu=0, machine=0), last), lock=None, limit=None)
    facts = {"loader": TORCH, "loader.num_workers": workers}
    return spans.run(notes=facts, environment={"cpus usable": 2}, watched=watched)


def said(run, found=()):
    return nothing_gains(run, work_of(run), found)


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        pytest.param({"cpu": 1.0}, "keeps 1.9 of its 2 cores computing", id="cores computing already"),
        pytest.param({"cpu": 0.1, "others": 1.9}, "other processes 1.9", id="others have the cores"),
        pytest.param({"workers": 4}, "4 worker processes for 2 cores", id="as many workers as are tried"),
        pytest.param({"seen": False}, "not recorded", id="nothing recorded of the loader"),
        pytest.param({}, "work a step in the dataset’s own code", id="work that no option makes less"),
        pytest.param({"wait": 0}, "Only 0.0% of the step waits", id="a run that does not wait"),
    ],
)
def test_the_reason_is_told(spans, run, reason):
    text = said(waiting_run(spans, **run))
    assert text.startswith("Nothing about the loader would gain 2%")
    assert reason in text


def test_a_fix_left_out_for_its_interval_is_told_with_it(spans):
    """57% by the model, with an interval that holds no gain too: not "nothing", and not advice."""
    fix = Fix(
        title="2 worker processes", do="", cost="", effort=0, gain=0.57, recorded_ns=10e6, step_ns=4.3e6, low=0.0,
        high=19e6, extrapolated=False, reason="",
    )  # fmt: skip
    text = said(waiting_run(spans), [fix])
    assert "surely" in text
    assert "“2 worker processes” may save 57%" in text
    assert "reaches the 10.0 ms of now" in text
