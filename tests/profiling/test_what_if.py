"""Predictions against simulated pipelines run again with the change: no clock, so the truth is exact."""

from __future__ import annotations

import dataclasses
import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import ProfileError
from datapipe.events import HIT, MISS
from datapipe.profiling.changes import Change
from datapipe.profiling.costs import Segment
from datapipe.profiling.jobs import Job
from datapipe.profiling.replay import replay
from datapipe.profiling.what_if import changes_for, predict, predict_all, what_if
from datapipe.profiling.workload import Take, Workload, workload_of


def simulated(pipeline, seed, spread, n=200):
    """A random three-stage pipeline and its loop."""
    random = np.random.default_rng(seed)
    services = np.round(random.uniform(1, 4, (3, 1)) * 1e6 * random.lognormal(0, spread, (3, n)))
    return pipeline(services, np.round(random.uniform(1, 4) * 1e6 * random.lognormal(0, spread, n)))


def mean_step(made):
    done = made.finish()[-1]
    return (done[-1] - done[0]) / (len(done) - 1)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spread", [0.1, 0.5])
def test_replay_reproduces_the_recording(pipeline, seed, spread):
    """The unchanged replay has the recorded mean step, within 5%: queues there block, here they bound the lead."""
    made = simulated(pipeline, seed, spread)
    ends = replay(workload_of(made.spans().run(), cores=8))
    assert (ends[-1] - ends[0]) / (len(ends) - 1) == pytest.approx(mean_step(made), rel=0.05)


def test_what_ifs_meet_the_executed_fix(pipeline):
    """Over random pipelines with one stage made twice as fast: median error ≤3%, 95th percentile ≤8%."""
    errors = []
    for seed in range(6):
        made = simulated(pipeline, seed, 0.3)
        for s, stage in enumerate(("fetch", "decode", "gather", "forward")):
            services, compute = made.services.copy(), made.compute
            if stage == "forward":
                compute = compute / 2
            else:
                services[s] /= 2
            truth = mean_step(pipeline(services, compute))
            found = what_if(made.spans().run(), Change(kind="faster", stage=stage), cores=8)
            errors.append(abs(found.step_ns / truth - 1))
    assert np.median(errors) <= 0.03
    assert np.quantile(errors, 0.95) <= 0.08


def work_of(n, *, cpu=0.0, idle=0.0, threads=1, cores=8.0, serial=(), unsure=(), hit=0, compute=0.0, ahead=4):
    """Make n batches, each one job of one segment, taken by a loop that computes `compute` ns (off the cores)."""
    segment = Segment(stage="transform" if not hit else "fetch", cpu=cpu, idle=idle, hit=hit)
    work = Workload(
        jobs=tuple(Job(pool=0, block=False, batch=i, needs=(), work=(segment,)) for i in range(n)),
        takes=tuple(
            Take(job=i, blind=0.0, work=(Segment(stage="forward", cpu=0.0, idle=compute),)) for i in range(n)
        ),
        pools=(threads,), stages=(frozenset({segment.stage}),), helps=frozenset(), ahead=((ahead, ahead),), cores=cores,
        serial=frozenset(serial), unsure=frozenset(unsure), recorded_ns=1.0, takes_per_step=1.0,
    )  # fmt: skip
    ends = replay(work)
    return dataclasses.replace(work, recorded_ns=float((ends[-1] - ends[0]) / (n - 1)))


def test_a_limit_is_what_held_the_loader_back(pipeline):
    """Queues of 2 before a slow loop: the gather runs 2 batches ahead, its queue and its hand.

    A loader that the loop waits for shows no limit.
    """
    quick, slow = np.full((3, 60), 1e6), np.full(60, 8e6)
    assert workload_of(pipeline(quick, slow).spans().run(), cores=8).ahead[-1][1] == 2
    starved = workload_of(pipeline(np.full((3, 60), 8e6), np.full(60, 1e6)).spans().run(), cores=8)
    assert starved.ahead[-1][1] == len(starved.takes)


def gain(work, **change):
    return predict(work, Change(**change)).gain


def test_threads_help_what_sleeps_and_what_has_cores():
    """Twice the threads halve a stage that waits, or that computes where there are cores."""
    assert gain(work_of(400, idle=1e6), kind="threads") == pytest.approx(0.5, abs=0.01)
    assert gain(work_of(400, cpu=1e6), kind="threads") == pytest.approx(0.5, abs=0.01)


def test_threads_do_not_make_cores_or_locks():
    """They gain nothing on one core, and nothing for a stage that holds the interpreter lock."""
    assert gain(work_of(400, cpu=1e6, cores=1.0), kind="threads") == pytest.approx(0, abs=0.01)
    assert gain(work_of(400, cpu=1e6, serial=["transform"]), kind="threads") == pytest.approx(0, abs=0.01)


def test_an_unknown_lock_widens_the_interval():
    """A stage that never ran twice at once: the interval holds both answers, and the prediction is an extrapolation."""
    work = work_of(400, cpu=1e6, unsure=["transform"])
    found = predict(work, Change(kind="threads", stage="transform"))
    assert found.extrapolated
    assert found.low <= 0.5e6
    assert found.high >= 0.99e6
    assert "transform" in found.reason


def test_a_warm_cache_takes_what_hits_took():
    """Hits and misses are two populations: warm, all reads cost what the hits did."""
    work = work_of(100, idle=4e6, hit=MISS)
    hit = Segment(stage="fetch", cpu=0.0, idle=1e6, hit=HIT)
    jobs = tuple(dataclasses.replace(job, work=(hit,)) if job.batch % 4 == 0 else job for job in work.jobs)
    mixed = dataclasses.replace(work, jobs=jobs)
    ends = replay(mixed)
    mixed = dataclasses.replace(mixed, recorded_ns=float((ends[-1] - ends[0]) / 99))
    found = predict(mixed, Change(kind="cache warm"))
    assert found.step_ns == pytest.approx(1e6, rel=0.01)
    assert not found.extrapolated
    assert predict(work, Change(kind="cache warm")).extrapolated


def test_a_warm_cache_has_hits_enough_for_any_number_of_reads():
    """A block read in fifty pieces takes fifty times what a hit took."""
    hit, miss = (Segment(stage="fetch", cpu=0.0, idle=ns, hit=flag) for ns, flag in ((1e6, HIT), (5e6, MISS)))
    work = work_of(4, idle=5e6, hit=MISS)
    jobs = [dataclasses.replace(job, work=(miss,) * 50) for job in work.jobs]
    work = dataclasses.replace(work, jobs=(dataclasses.replace(jobs[0], work=(hit,)), *jobs[1:]))
    assert predict(work, Change(kind="cache warm")).step_ns < predict(work, Change(kind="prefetch")).step_ns


def test_storage_scales_waiting_and_not_computing():
    work = work_of(100, cpu=1e6, idle=2e6, hit=MISS)
    assert predict(work, Change(kind="storage", factor=2.0)).step_ns == pytest.approx(2e6, rel=0.01)
    assert predict(work, Change(kind="storage", factor=0.5)).step_ns == pytest.approx(5e6, rel=0.01)
    assert predict(work, Change(kind="latency", factor=1e6)).step_ns == pytest.approx(4e6, rel=0.01)


def test_the_slower_of_loop_and_loader_bounds_a_gain():
    """A faster transform gains until the loop's own time; a faster device gains what the loader leaves over."""
    work = work_of(400, idle=3e6, compute=2e6)
    assert predict(work, Change(kind="offline", stage="transform")).step_ns == pytest.approx(2e6, rel=0.01)
    assert gain(work, kind="device") == pytest.approx(0, abs=0.01)


def test_batches_that_become_cheap_are_made_by_the_loop_of_our_own_loader():
    """Gathering for 0.15 ms is left to the loop, whose step it lengthens; another loader's thread goes on doing it."""
    work = work_of(400, idle=3e6, compute=2e6)
    gathered = Segment(stage="gather", cpu=0.15e6, idle=0.0)
    jobs = tuple(dataclasses.replace(job, work=(gathered, *job.work)) for job in work.jobs)
    others, ours = (dataclasses.replace(work, jobs=jobs, cheap=cheap, recorded_ns=3.15e6) for cheap in (0.0, 0.2e6))
    offline = Change(kind="offline", stage="transform")
    assert predict(others, offline).step_ns == pytest.approx(2e6, rel=0.01)
    assert predict(ours, offline).step_ns == pytest.approx(2.15e6, rel=0.01)
    faster = Change(kind="faster", stage="transform", factor=2.0)  # and no cheap one
    assert predict(ours, faster) == predict(others, faster)
    dearer = dataclasses.replace(ours, cheap=0.1e6)
    assert predict(dearer, offline) == predict(dataclasses.replace(dearer, cheap=0.0), offline)


def test_sending_a_batch_to_a_process_lengthens_a_step_of_our_own_loader():
    """Two processes that spin for 6 ms a batch keep up with a loop of 4 ms; what then is left is the sending."""
    work = work_of(100, cpu=6e6, threads=1, serial={"transform"}, compute=4e6)
    workers = Change(kind="workers", stage="transform", factor=2.0)
    others, ours = (predict(dataclasses.replace(work, cheap=cheap), workers) for cheap in (0.0, 0.2e6))
    assert others.step_ns == pytest.approx(4e6, rel=0.01)
    assert ours.step_ns == pytest.approx(4.45e6, rel=0.01)


def test_cheap_batches_of_our_own_loader_stay_with_the_loop_when_there_is_time_to_make_them_ahead():
    """Gathered for 0.1 ms by a loop that waited for reads: without those its step is its own work and the gather."""
    gathered, read = Segment(stage="gather", cpu=0.1e6, idle=0.0), Segment(stage="fetch", cpu=0.0, idle=5e6)
    work = work_of(100, idle=5e6, compute=2e6)
    blocks = tuple(Job(pool=0, block=True, batch=i, needs=(), work=(read,)) for i in range(100))
    batches = tuple(Job(pool=0, block=False, batch=i, needs=(i,), work=(gathered,)) for i in range(100))
    takes = tuple(dataclasses.replace(take, job=100 + i) for i, take in enumerate(work.takes))
    work = dataclasses.replace(work, jobs=(*blocks, *batches), takes=takes, helps=frozenset({0}), cheap=0.2e6)
    ends = replay(work)
    work = dataclasses.replace(work, recorded_ns=float((ends[-1] - ends[0]) / 99))
    none = Change(kind="storage", factor=100.0)
    assert predict(work, none).step_ns == pytest.approx(2.1e6, rel=0.01)
    assert predict(dataclasses.replace(work, cheap=0.0), none).step_ns < 2e6  # made ahead by the loader's thread


def test_a_run_that_the_replay_does_not_fit_says_so():
    """A step 40% longer than its replay: the interval holds that, and the prediction is an extrapolation."""
    work = work_of(100, idle=3e6, compute=2e6)
    odd = dataclasses.replace(work, recorded_ns=1.4 * work.recorded_ns)
    faster = Change(kind="device", factor=2.0)
    known, unknown = predict(work, faster), predict(odd, faster)
    assert (known.extrapolated, unknown.extrapolated) == (False, True)
    assert unknown.step_ns - unknown.low > 0.35 * unknown.step_ns
    assert "not one that the model knows" in unknown.reason


def test_the_same_question_has_the_same_answer(pipeline):
    run = simulated(pipeline, 3, 0.5, n=60).spans().run()
    assert predict_all(run, cores=4) == predict_all(run, cores=4)


def test_every_listed_change_can_be_predicted(pipeline):
    """What `changes_for` lists is predicted, best first, each within its own interval."""
    run = simulated(pipeline, 1, 0.3, n=60).spans().run()
    found = predict_all(run, cores=4)
    assert {p.change for p in found} == set(changes_for(workload_of(run, cores=4)))
    assert [p.step_ns for p in found] == sorted(p.step_ns for p in found)
    assert all(p.low <= p.step_ns <= p.high for p in found)


def test_what_was_not_recorded_is_not_predicted(pipeline, steady_run):
    """A stage that never ran, a change that is none, a run too short: each says so."""
    run = simulated(pipeline, 1, 0.3, n=30).spans().run()
    with pytest.raises(ProfileError, match="never ran collate"):
        what_if(run, Change(kind="faster", stage="collate"), cores=4)
    with pytest.raises(ProfileError, match="names no stage"):
        Change(kind="faster")
    for factor in (0.0, -1.0, float("nan"), float("inf"), 1e-300, 1.7e308):
        with pytest.raises(ProfileError, match="factor"):
            Change(kind="prefetch", factor=factor)
        with pytest.raises(ProfileError, match="cores"):
            what_if(run, Change(kind="device"), cores=min(factor, 0.0) or float("nan"))
    for latency in (float("nan"), float("-inf"), 1e300):
        with pytest.raises(ProfileError, match="latency"):
            Change(kind="latency", factor=latency)
    with pytest.raises(ProfileError, match="too few steps"):
        what_if(steady_run(n=2), Change(kind="device"), cores=4)
    assert predict_all(steady_run(n=2), cores=4) == ()


def test_a_loader_that_shows_nothing_is_replayed_as_it_was(steady_run):
    """Unseen waits are kept; only the loop can be changed: a device twice as fast halves forward and backward."""
    found = what_if(steady_run(n=50, wait=1.0, forward=2.0, backward=3.0), Change(kind="device"), cores=4)
    assert found.step_ns == pytest.approx(3.5e6, rel=0.01)


def test_processes_let_what_holds_the_lock_compute_side_by_side():
    """Twice the threads gain nothing for a stage that holds the interpreter lock; as many processes halve it."""
    work = work_of(400, cpu=1e6, serial=["transform"])
    assert gain(work, kind="workers", stage="transform") == pytest.approx(0.5, abs=0.01)


def test_relaxed_order_does_not_wait_for_the_one_that_is_late():
    """One item in ten takes ten times as long: in order all wait behind it, relaxed the others go on meanwhile."""
    work = work_of(200, idle=1e6, threads=2, ahead=12, compute=0.9e6)
    heavy = Segment(stage="transform", cpu=0.0, idle=8e6)
    jobs = tuple(dataclasses.replace(job, work=(heavy,)) if job.batch % 10 == 0 else job for job in work.jobs)
    work = dataclasses.replace(work, jobs=jobs)
    relaxed = replay(dataclasses.replace(work, ordered=False))
    assert len(relaxed) == 200
    assert relaxed[-1] <= replay(work)[-1]
    assert np.mean(relaxed) < np.mean(replay(work))


def test_larger_row_groups_share_what_a_request_costs():
    """Where sizes differ, waiting is split into the request's and the bytes'; twice the size halves the first."""
    work = work_of(200, idle=1.0, hit=MISS)
    sizes = [1_000_000 * (1 + i % 3) for i in range(200)]
    jobs = tuple(
        dataclasses.replace(job, work=(Segment(stage="fetch", cpu=0.0, idle=2e6 + n, hit=MISS, nbytes=n),))
        for job, n in zip(work.jobs, sizes, strict=True)
    )
    work = dataclasses.replace(work, jobs=jobs)
    ends = replay(work)
    work = dataclasses.replace(work, recorded_ns=float((ends[-1] - ends[0]) / 199))
    found = predict(work, Change(kind="row groups", factor=2.0))
    assert work.recorded_ns - found.step_ns == pytest.approx(1e6, rel=0.02)


@given(
    idles=st.lists(st.integers(0, 5_000_000), min_size=4, max_size=40), threads=st.integers(1, 4),
    ahead=st.integers(1, 6), compute=st.integers(0, 3_000_000), ordered=st.booleans(),
)  # fmt: skip
def test_a_replay_obeys_its_laws(idles, threads, ahead, compute, ordered):
    """No replay ends before the loop's own time, or the loader's over all threads, or after both in turn.

    Nor does a loop that takes its batches in order take longer for reading further ahead.
    """
    work = work_of(len(idles), threads=threads, ahead=ahead, compute=compute)
    jobs = tuple(
        dataclasses.replace(job, work=(Segment(stage="transform", cpu=0.0, idle=float(ns)),))
        for job, ns in zip(work.jobs, idles, strict=True)
    )
    work = dataclasses.replace(work, jobs=jobs, ordered=ordered)
    end = replay(work)[-1]
    assert end >= max(compute * len(idles), sum(idles) / threads) - 1
    assert end <= compute * len(idles) + sum(idles) + 1
    if ordered:
        further = dataclasses.replace(work, ahead=((ahead + 1, ahead + 1),), pools=(1,))
        assert replay(further)[-1] <= replay(dataclasses.replace(work, pools=(1,)))[-1] + 1


def test_who_slept_waits_for_the_lock():
    """A loop that sleeps 1 ms beside a stage that holds the lock for 4: each step ends when the lock is let go."""
    work = work_of(100, cpu=4e6, serial=["transform"], compute=1e6)
    held = replay(dataclasses.replace(work, switch=5e6))
    soon = replay(dataclasses.replace(work, switch=0.5e6))
    free = replay(work)
    assert held[0] == pytest.approx(8e6)  # 4 to make the batch, 1 asleep, 3 until the next one is made
    assert soon[0] == pytest.approx(5.5e6)
    assert free[0] == pytest.approx(5e6)


def test_a_replay_looks_at_no_batch_twice(monkeypatch):
    """Batches that wait for room are not gone through at each pick: the work grows as the run's length."""
    taken = []
    pop = heapq.heappop
    work = dataclasses.replace(work_of(300, idle=1e6, compute=2e6), ahead=((300, 0),))
    monkeypatch.setattr("heapq.heappop", lambda heap: taken.append(1) or pop(heap))
    assert len(replay(work)) == 300
    assert len(taken) <= 4 * 300


def test_a_replay_of_any_length_ends():
    """Where the time is so long that a piece of work is lost in its last place, the piece still ends."""
    assert len(replay(work_of(4, idle=1e25, cpu=1e6, threads=2))) == 4
