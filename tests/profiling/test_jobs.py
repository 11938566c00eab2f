"""A loader's work as jobs: what is between them, and what lies beyond the epoch's end."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from datapipe.profiling.machine_watch import Watched
from datapipe.profiling.process_counters import read_counters
from datapipe.profiling.replay import replay
from datapipe.profiling.workload import workload_of

MS = 1_000_000


def one_thread(spans, *, n=20, more=0, gap=2 * MS // 5, cpu=3 * MS):
    """Transform of 3 ms on one thread, 0.4 ms of bookkeeping before each; a loop of 2 ms that waits for it.

    `more`: batches of the next epoch, which are made and not taken.
    """
    for i in range(n + more):
        end = (i + 1) * (3 * MS + gap)
        spans.add("transform", end - 3 * MS, end, item=i, thread=1, cpu=cpu, get=end - 3 * MS - 1)
    for i in range(n):
        taken, end = (i + 1) * (3 * MS + gap), (i + 1) * (3 * MS + gap) + 2 * MS
        asked = taken - (3 * MS + gap) + 2 * MS if i else 0
        spans.add("wait", asked, taken, item=i, cause=i).add("forward", taken, end).add("step", asked, end, item=i)
    return spans


@pytest.mark.parametrize(("seen", "share"), [(3 * MS, 0.0), (3.2 * MS, 0.5), (9 * MS, 1.0)])
def test_bookkeeping_takes_a_core_as_far_as_the_process_did(spans, seen, share):
    """What the process computed beyond its spans was computed between them: half of each gap, or all, or nothing."""
    first = read_counters(children=())
    counted = [dataclasses.replace(first, cpu=round(used)) for used in (0, 20 * seen)]
    run = one_thread(spans).run(watched=Watched(counters=tuple(counted), lock=None, limit=None))
    work = workload_of(run, cores=2)
    between = [segment for job in work.jobs for segment in job.work if segment.stage == "queue"]
    assert sum(s.cpu + s.idle for s in between) == pytest.approx(8 * MS, rel=0.06)
    assert sum(s.cpu for s in between) == pytest.approx(share * 8 * MS, rel=0.06)


def test_a_loader_that_goes_on_keeps_its_threads_at_the_end(spans, new_spans):
    """Batches of the next epoch were begun: the replay begins some too, behind all others; without, there are none."""
    work = workload_of(one_thread(spans, more=3).run(), cores=1)
    plain = workload_of(one_thread(new_spans()).run(), cores=1)
    beyond = [job for job in work.jobs if job.batch >= 20]
    assert len(work.jobs) - len(beyond) == len(plain.jobs) == 20
    assert len(beyond) == 16
    assert min(job.batch for job in beyond) == 20
    assert all(need < at for at, job in enumerate(work.jobs) for need in job.needs)
    assert replay(work) == pytest.approx(replay(plain), rel=1e-6)  # one thread: the last batch is the last it begins
    # On one core four threads gain nothing: at the end too, where nothing but the next epoch is left to do.
    four = np.diff(replay(dataclasses.replace(work, pools=(4,))))
    assert four[-8:].mean() == pytest.approx(3 * MS, rel=0.05)
    assert np.diff(replay(dataclasses.replace(plain, pools=(4,))))[-3:].mean() < 2.9 * MS


def test_a_batch_that_lies_ready_takes_what_taking_took(spans):
    """A slow loop takes 0.2 ms for each of its batches, made long before: the replay's loop does too."""
    for i in range(20):
        start = i * 10 * MS
        spans.add("transform", start - 5 * MS + 10 * MS, start - 2 * MS + 10 * MS, item=i + 1, thread=1)
        spans.add("wait", start, start + MS // 5, item=i, cause=i).add("forward", start + MS // 5, start + 10 * MS)
        spans.add("step", start, start + 10 * MS, item=i)
    work = workload_of(spans.add("transform", 0, MS // 10, item=0, thread=1).run(), cores=2)
    assert work.ready == MS // 5
    assert np.diff(replay(work)).mean() == pytest.approx(10 * MS, rel=0.001)
