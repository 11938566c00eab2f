"""A contended lock is told of where it cost the steady steps something, and nowhere else."""

from __future__ import annotations

import dataclasses

import pytest

from datapipe.profiling.analysis import summarise
from datapipe.profiling.loader_facts import DATAPIPE, TORCH
from datapipe.profiling.lock_probe import lock_delay
from datapipe.profiling.machine_watch import Watched

MS = 1_000_000


def watched(probes):
    lock = lock_delay([late for _, late in probes], enabled=True, switch=5e6)
    return Watched(counters=(), lock=lock, limit=None, probes=tuple(probes))


def two_threads(spans, *, wait, loader=DATAPIPE, names=None, n=60, step=10):
    """Two threads make batches in 20 ms each and hold the lock by turns; the loop waits for `wait` of its 10 ms."""
    for i in range(n):
        t = i * step * MS
        for thread in (1, 2):
            if i % 2 == thread - 1:
                spans.add("transform", t, t + 2 * step * MS, item=i, thread=thread, cpu=step * MS)
        spans.add("wait", t, t + wait * MS, item=i).add("forward", t + wait * MS, t + step * MS, cpu=(step - wait) * MS)
        spans.add("step", t, t + step * MS, item=i)
    probes = [((step * i + 5) * MS, 5 * MS) for i in range(n)]
    run = spans.run(watched=watched(probes), notes={"loader": loader})
    return run if names is None else dataclasses.replace(run, threads=names)


def test_imports_are_no_contention_of_the_steps(steady_run):
    """100 probes of start-up waited 20 ms each, those of the steps nothing; and a run without steps says nothing."""
    early = [(i * 40_000, 20 * MS) for i in range(100)]
    late = [((5 + 6 * i) * MS, 50_000) for i in range(50)]
    found = summarise(steady_run(wait=4.0, forward=1.0, backward=1.0, watched=watched([*early, *late]))).lock
    assert 45 <= found.probes < 50  # the first step's is left out with the imports
    assert found.contended == 0
    assert found.warning is None


def test_a_run_without_steps_says_nothing_of_the_lock(spans):
    run = spans.add("fetch", 0, 10, thread=1).run(watched=watched([(i, 20 * MS) for i in range(100)]))
    assert summarise(run).lock.warning is None


def test_late_probes_alone_hold_nobody_up(steady_run):
    """One thread that waits for data, and a lock that came late: there is no second thread that lost anything."""
    probes = [((5 + 6 * i) * MS, 5 * MS) for i in range(60)]
    found = summarise(steady_run(n=60, wait=4.0, forward=1.0, backward=1.0, watched=watched(probes))).lock
    assert found.contended == 1
    assert found.warning is None


def test_threads_that_take_turns_are_told_of(spans):
    """Each was off the core for half of its time while the loop waited: 10 ms a step, in the loader's own words."""
    found = summarise(two_threads(spans, wait=6)).lock
    assert found.held_up == "transform"
    assert found.lost == pytest.approx(10 * MS, rel=0.1)
    assert "“transform” loses 9.8 ms a step" in found.warning
    assert 'workers="process"' in found.warning


def test_a_loop_that_waits_for_no_data_loses_nothing(spans):
    assert summarise(two_threads(spans, wait=0)).lock.warning is None


def test_the_words_are_of_the_loader_that_was_used(spans, new_spans):
    """Torch's has a dataset and workers, and no transform; one that is not known has no options."""
    said = summarise(two_threads(spans, wait=6, loader=TORCH)).lock.warning
    assert "num_workers" in said
    assert "collate_fn" in said
    unknown = summarise(two_threads(new_spans(), wait=6, loader=None)).lock.warning
    for words in (said.replace("“transform”", ""), unknown.replace("“transform”", "")):
        assert "transform" not in words
        assert 'workers="process"' not in words


def test_worker_processes_hold_another_lock(spans):
    """The same spans, recorded by two worker processes: whoever held this process's lock, it was not they."""
    names = ("MainThread", "DataLoader worker 0", "DataLoader worker 1")
    found = summarise(two_threads(spans, wait=6, loader=TORCH, names=names))
    assert found.lock.warning is None
    assert found.lock_waits == ()
