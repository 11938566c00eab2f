from __future__ import annotations

import pytest

from datapipe.profiling.analysis import summarise
from datapipe.profiling.verdict import ms

MS = 1_000_000


@pytest.mark.parametrize(
    ("wait", "kind"),
    [(0.1, "not input-bound"), (0.2, "not input-bound"), (0.3, "moderately input-bound"),
     (1.0, "moderately input-bound"), (1.3, "input-bound"), (20, "input-bound")],
)  # fmt: skip
def test_the_kind_follows_the_thresholds(steady_run, wait, kind):
    """Under 5% of the step not, from 5% moderately, from 20% input-bound; compute is 5 ms."""
    assert summarise(steady_run(wait=wait)).verdict.kind == kind


def test_a_healthy_run_is_told_what_bounds_it(steady_run):
    verdict = summarise(steady_run(wait=0.05, forward=2, backward=6)).verdict
    assert verdict.bottleneck == "backward"
    assert verdict.sentence.startswith("Healthy")
    assert "75% of the step" in verdict.sentence
    assert "backward pass" in verdict.sentence


def test_a_few_slow_steps_are_pointed_out(steady_run):
    """A mean far above the median is said: the typical step is another matter."""
    forward = [2.0] * 60
    forward[30] = 800.0
    assert any("Uneven" in line for line in summarise(steady_run(n=60, forward=forward)).verdict.evidence)
    assert not any("Uneven" in line for line in summarise(steady_run(n=60)).verdict.evidence)


def test_near_ties_are_named_together(steady_run):
    """A part within 10% of the largest is a co-bottleneck."""
    verdict = summarise(steady_run(wait=0.05, forward=5.7, backward=6)).verdict
    assert (verdict.bottleneck, verdict.also) == ("backward", ("forward",))


def test_an_input_bound_run_is_told_the_stage(pipeline):
    """Where decoding is slowest, decoding is named, even if the consumer's own part is large."""
    import numpy as np

    services = np.array([[1.0], [8.0], [1.0]]) * MS * np.ones((3, 60))
    verdict = summarise(pipeline(services, np.full(60, 5.0 * MS)).spans().run()).verdict
    assert (verdict.kind, verdict.bottleneck) == ("input-bound", "decode")
    assert "decoding" in verdict.sentence


@pytest.mark.parametrize(("n", "kind"), [(5, "too few steps"), (10, "too few steps"), (11, "input-bound")])
def test_too_few_steps_are_not_judged(steady_run, n, kind):
    """The first step is not steady, so eleven are the fewest."""
    assert summarise(steady_run(n=n, wait=9)).verdict.kind == kind


def test_no_steps_is_said(spans):
    verdict = summarise(spans.add("fetch", 0, 10).run()).verdict
    assert verdict.kind == "no steps"
    assert "prof.steps" in verdict.evidence[0]


def test_wait_under_a_busy_device_is_no_stall(steady_run):
    """A step that waits half its time while the device works is not input-bound."""
    run = steady_run(wait=5)
    device = run.spans[run.spans["stage"] == run.stages.index("wait")].copy()
    device["flags"], device["stage"] = 4, run.stages.index("forward")
    import dataclasses

    import numpy as np

    busy = summarise(dataclasses.replace(run, spans=np.concatenate([run.spans, device])))
    assert summarise(run).verdict.kind == "input-bound"
    assert busy.verdict.kind == "not input-bound"
    assert busy.hidden_ns == pytest.approx(5 * MS)
    assert {part.name: part.mean for part in busy.device} == pytest.approx({"forward": 5 * MS, "busy": 5 * MS})
    assert any("device was busy 50%" in line for line in busy.verdict.evidence)


@pytest.mark.parametrize(
    ("ns", "text"), [(12_345, "0.012 ms"), (1_234_567, "1.23 ms"), (12_345_678, "12.3 ms"), (1_234_567_890, "1,235 ms")]
)
def test_durations_are_written_with_three_digits(ns, text):
    assert ms(ns) == text
