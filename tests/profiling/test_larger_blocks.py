"""Larger row groups: fewer block jobs, the same work, and nothing that needed one left behind."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.events import HIT, MISS
from datapipe.profiling.costs import Segment
from datapipe.profiling.jobs import Job
from datapipe.profiling.larger_blocks import larger_blocks
from datapipe.profiling.replay import replay
from datapipe.profiling.workload import Take, Workload

MS = 1e6


def work_of(blocks, *, batches=2, request=8.0, hit=MISS):
    """So many row groups of some batches each: 8 ms a request, 1 to decode, 0.5 to prepare; a loop of 1 ms."""
    jobs, takes = [], []
    for block in range(blocks):
        first = block * batches
        fetch = Segment(stage="fetch", cpu=0.0, idle=request * MS, hit=hit, nbytes=100)
        decode = Segment(stage="decode", cpu=MS, idle=0.0, nbytes=100)
        head = Segment(stage="queue", cpu=0.0, idle=1000.0)
        jobs.append(Job(pool=0, block=True, batch=first, needs=(), work=(head, fetch, decode)))
        here = len(jobs) - 1
        prepare = Segment(stage="prepare", cpu=MS / 2, idle=0.0)
        jobs.append(Job(pool=0, block=False, batch=first, needs=(here,), work=(head, prepare)))
        for batch in range(first, first + batches):
            gather = Segment(stage="gather", cpu=MS / 10, idle=0.0)
            jobs.append(Job(pool=0, block=False, batch=batch, needs=(here, here + 1), work=(gather,)))
            device = Segment(stage="forward", cpu=0.0, idle=MS)
            takes.append(Take(job=len(jobs) - 1, blind=0.0, work=(device,)))
    return Workload(
        jobs=tuple(jobs), takes=tuple(takes), pools=(1,), stages=(frozenset({"fetch", "decode", "gather"}),),
        helps=frozenset(), ahead=((len(takes),) * 2,), cores=4.0, serial=frozenset(), unsure=frozenset(),
        recorded_ns=1.0, takes_per_step=1.0,
    )  # fmt: skip


def spent(work, stage):
    return sum(s.cpu + s.idle for job in work.jobs for s in job.work if s.stage == stage)


@given(blocks=st.integers(1, 13), batches=st.integers(1, 3), factor=st.integers(2, 5))
def test_the_work_is_the_same_but_for_the_requests(blocks, batches, factor):
    """Whatever the numbers: all is decoded and gathered, requests go down, needs lie before, and the replay ends."""
    work = work_of(blocks, batches=batches)
    found = larger_blocks(work, factor, saved_once=8 * MS)
    larger = -(-blocks // factor)
    assert sum(job.block for job in found.jobs) == larger
    assert spent(found, "decode") == pytest.approx(spent(work, "decode"))
    assert spent(found, "gather") == pytest.approx(spent(work, "gather"))
    assert spent(found, "fetch") == pytest.approx(8 * MS * larger)
    assert spent(found, "prepare") == pytest.approx(MS / 2 * larger)
    assert all(need < at for at, job in enumerate(found.jobs) for need in job.needs)
    assert len(replay(found)) == len(work.takes)


def test_a_loop_waits_longer_and_less_often():
    """Twice as large: half as many steps wait, each for the request and two decodes."""
    before, after = (np.diff(replay(work)) for work in (work_of(12), larger_blocks(work_of(12), 2, saved_once=8 * MS)))
    assert np.count_nonzero(before > 2 * MS) == 11
    assert np.count_nonzero(after > 2 * MS) == 5
    assert after.mean() < 0.7 * before.mean()


def test_what_a_request_costs_by_the_byte_and_hits_stay():
    """Of 8 ms a request 5 are its own: the other 3 go with the bytes. What lies in a cache saves nothing."""
    assert spent(larger_blocks(work_of(4), 2, saved_once=5 * MS), "fetch") == pytest.approx((8 + 3) * 2 * MS)
    assert spent(larger_blocks(work_of(4, hit=HIT), 2, saved_once=5 * MS), "fetch") == pytest.approx(32 * MS)


def test_takes_of_batches_that_were_not_seen_stay_so():
    work = work_of(4)
    blind = dataclasses.replace(work.takes[0], job=-1, blind=3 * MS)
    found = larger_blocks(dataclasses.replace(work, takes=(blind, *work.takes[1:])), 2, saved_once=0.0)
    assert found.takes[0] == blind
