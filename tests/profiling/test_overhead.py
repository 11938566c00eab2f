"""The profile's own cost: everything it ran is counted, and published."""

from __future__ import annotations

from collections import Counter

import pytest

from datapipe.profiling.overhead import overhead, price_of_a_span
from datapipe.profiling.profile_file import load_profile


def counted(spans):
    return Counter(spans.array()["thread"].tolist())


def test_everything_is_counted(spans):
    """Spans of the loop in full, the loaders' per thread, and the CPU time of the profile's own threads."""
    for i in range(10):
        spans.add("step", i * 100, i * 100 + 100, item=i)
        for thread in (1, 2):
            spans.add("decode", i * 100, i * 100 + 50, item=i, thread=thread)
    cost = overhead(counted(spans), consumer=0, ns_per_span=2.0, watching=30, wall=10_000, steps=10)
    assert (cost.spans, cost.elsewhere) == (10, 20)
    assert (cost.loop, cost.loader, cost.watching) == (20.0, 20.0, 30)
    assert cost.share == pytest.approx(70 / 10_000)
    assert cost.per_step == pytest.approx(7.0)


def test_the_trace_is_priced_apart(spans):
    """What was written after the run is no part of the recording's share, and is of the trace's."""
    cost = overhead(counted(spans.add("step", 0, 100)), consumer=0, ns_per_span=2.0, watching=0, wall=1000, steps=1)
    after = cost.after(trace=20, writing=50, wall=1000)
    assert after.share == cost.share
    assert after.with_trace == pytest.approx(cost.share + 0.02)


def test_too_dear_a_recording_is_said_to_be(spans):
    """Steps of 100 ns with spans of 50: the profile warns of itself."""
    spans.add("step", 0, 100)
    assert overhead(counted(spans), consumer=0, ns_per_span=50.0, watching=0, wall=100, steps=1).warning is not None
    assert overhead(counted(spans), consumer=0, ns_per_span=0.5, watching=0, wall=100, steps=1).warning is None


def test_what_is_printed_adds_up(spans):
    """400 spans of 2,000 ns in 2.1 s are 0.04%, the watching 0.71%, of 0.75% together; the trace comes on top."""
    for i in range(400):
        spans.add("step", i * 100, i * 100 + 100, item=i)
    wall = 2_100_000_000
    cost = overhead(counted(spans), consumer=0, ns_per_span=2_000.0, watching=15_000_000, wall=wall, steps=400)
    said = str(cost.after(trace=140_000_000, writing=0, wall=wall))
    assert said == (
        "about 0.75% of the run: 0.04% for 400 spans of 2,000 ns, 0.71% on threads of the profile's own;"
        " 7.42% with the trace, 140 ms after the run"
    )
    assert cost.spans_share + cost.watching_share == pytest.approx(cost.share)


def test_spans_are_blamed_only_for_what_they_cost(spans):
    """Of 3% that its own threads took the spans are innocent: steps of 35 ms are not too short for 8 of them."""
    spans.add("step", 0, 100)
    found = overhead(counted(spans), consumer=0, ns_per_span=1.0, watching=30, wall=1000, steps=1).warning
    assert "too short" not in found
    assert "3.0% on threads" in found
    dear = overhead(counted(spans), consumer=0, ns_per_span=30.0, watching=1, wall=1000, steps=1).warning
    assert "too short for so many spans" in dear


def test_the_price_is_the_difference_by_turns():
    """On a clock that gives recording 1,000 ns a block more than not recording, the price is 1,000, drift or none."""
    now, reads = [0], [0]

    def clock():
        # Three readings a round: before, between, after; plain blocks take 4,000 ns, recorded ones 44,000.
        now[0] += {0: 500, 1: 4_000, 2: 44_000}[reads[0] % 3]
        reads[0] += 1
        return now[0]

    assert price_of_a_span(clock) == pytest.approx(1_000)


def test_a_profile_publishes_its_cost(tmp_path):
    """The cost is in `profile.json`, trace included, together with what was watched."""
    import datapipe

    with datapipe.profile(tmp_path) as prof:
        for _ in prof.steps(range(20)):
            with prof.phase("forward"):
                sum(range(1000))
    kept = load_profile(tmp_path)
    assert kept == prof.summary()
    assert kept.overhead.spans == 20 * 3 + 1
    assert kept.overhead.trace > 0
    assert kept.overhead.with_trace > kept.overhead.share > 0
