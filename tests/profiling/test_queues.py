"""Queues from spans: levels against a simulation whose queues are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.profiling.analysis import summarise

MS = 1_000_000


def strips(run):
    return {strip.taker: strip for strip in summarise(run).queues}


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), slow=st.integers(0, 3), depth=st.integers(1, 4))
def test_the_mean_is_littles_law(pipeline, seed, slow, depth):
    """Whatever the pipeline: mean level = sum of waiting times ÷ length, and the strip's cells average to it."""
    random = np.random.default_rng(seed)
    times = np.round(random.lognormal(0, 0.5, (4, 60)) * MS)
    times[slow] *= 3
    made = pipeline(times[:3], times[3], depth)
    _, start, end, _, asked, take, done = made.finish()
    found = strips(made.spans().run())
    length = done[-1] - asked[0]
    for taker, came, left in (("decode", end[0], start[1]), ("gather", end[1], start[2]), ("step", end[2], take)):
        waited = np.clip(left, asked[0], None) - np.clip(came, asked[0], None)
        assert found[taker].mean == pytest.approx(waited.sum() / length, rel=1e-6, abs=1e-9)
        assert np.mean(found[taker].levels) == pytest.approx(found[taker].mean, abs=1e-3)
        assert 0 <= found[taker].empty <= 1
        # The queue itself, and one item finished that waits for room in it.
        assert found[taker].most <= depth + 1


def test_a_slow_stage_has_a_full_queue_before_it_and_empty_ones_after(pipeline):
    services = np.full((3, 50), 1.0 * MS)
    services[1] *= 4
    found = strips(pipeline(services, np.full(50, MS)).spans().run())
    assert found["decode"].empty < 0.05
    assert found["gather"].empty > 0.95
    assert found["step"].empty > 0.95
    assert [strip.unit for strip in found.values()] == ["blocks", "blocks", "batches"]


def test_one_thread_has_no_queues(spans):
    """What a thread goes on with itself never lay anywhere; a loader that records nothing has no strips."""
    for i in range(10):
        t = i * 10 * MS
        spans.add("fetch", t, t + MS, item=i, thread=1).add("decode", t + 2 * MS, t + 3 * MS, item=i, thread=1)
        spans.add("wait", t, t + 4 * MS, item=i).add("step", t, t + 10 * MS, item=i)
    assert summarise(spans.run()).queues == ()
