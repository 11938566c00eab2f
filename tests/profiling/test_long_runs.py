"""A long run looked at by stretches: what they come to together is what the whole says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.events import Recorder, Ring
from datapipe.profiling.analysis import summarise
from datapipe.profiling.chrome_trace import trace
from datapipe.profiling.ledger import build_ledger
from datapipe.profiling.profile_file import load_profile
from datapipe.profiling.recording import profile
from datapipe.profiling.report import report_html
from datapipe.profiling.run_parts import LEFT_OUT
from datapipe.profiling.span_archive import SpanArchive
from datapipe.profiling.span_file import load_spans

MS = 1_000_000
ROOM = 1 << 12


def stretched(run, stretch, most=1 << 30):
    """The run as an archive keeps it that packs so many spans at a time, having seen them in order of their end."""
    recorder = Recorder(ROOM)
    recorder.started_ns = run.began
    for name in run.stages:
        assert recorder.stage(name) == run.stages.index(name)
    for name in run.threads:
        recorder.adopt(lambda n, name=name: Ring(ROOM, n, name))
    rings = recorder.rings()
    archive = SpanArchive(recorder, capacity=ROOM, interval=60, most=most, stretch=stretch)
    for k, row in enumerate(run.spans[np.argsort(run.spans["end"], kind="stable")].tolist()):
        item, cause, get, start, end, put, nbytes, cpu, stage, thread, flags = row
        rings[thread].write(stage, item, get, start, end, put, nbytes, cpu, cause, flags)
        if k % (stretch // 4 + 1) == 0:
            archive._take(least=1)
            archive._pack()
    long = archive.long()
    assert long is not None
    assert not archive.lost
    return dataclasses.replace(run, spans=long.tail(stretch), long=long)


def made(pipeline, seed, slow, n=400):
    """A pipeline with an evaluation that has waits of its own, two checkpoints and two passes."""
    random = np.random.default_rng(seed)
    times = np.round(random.lognormal(0, 0.5, (4, n)) * MS)
    times[slow] *= 3
    spans = pipeline(times[:3], times[3], 3).spans()
    steps = sorted((start, end) for *_, start, end, _, _, _, stage, _, _ in spans.rows if stage == 0)
    half = steps[n // 2][0]
    spans.add("epoch", steps[0][0], half, item=0).add("epoch", half, steps[-1][1], item=1)
    end = steps[-1][1]
    spans.add("evaluate", end + 10, end + 9 * MS).add("wait", end + 20, end + 5 * MS).add(
        "checkpoint", end + 10 * MS, end + 11 * MS
    )
    spans.add("checkpoint", steps[50][1] - 1000, steps[50][1])
    return spans.run(began=-MS, ended=round(end + 20 * MS), notes={"loader": "datapipe"}, ns_per_span=300.0)


def close(one, two):
    """Whether path shares of a walk that begins anew in every stretch are those of one walk."""
    whole = sum(one.values())
    return all(abs(one.get(name, 0) - two.get(name, 0)) <= 0.1 * whole for name in {*one, *two})


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**31), slow=st.integers(0, 3), stretch=st.sampled_from([300, 600]))
def test_a_run_is_the_sum_of_its_stretches(pipeline, seed, slow, stretch):
    """Steps, waits, run, remainder, stages, queues, phases, bytes: to the ns what is found of the run at once.

    Only the walk along the critical path begins anew in every stretch.
    """
    run = made(pipeline, seed, slow)
    at_once, by_stretches = summarise(run), summarise(stretched(run, stretch))
    for name in (
        "wall_ns", "remainder_ns", "steps_per_second", "step", "parts", "waits", "run", "epochs", "steady_steps",
        "series", "queues", "phases", "io", "hidden_ns", "recorder", "overhead", "device",
    ):  # fmt: skip
        assert getattr(by_stretches, name) == getattr(at_once, name), name
    rows = zip(at_once.stages, by_stretches.stages, strict=True)
    assert all(dataclasses.replace(one, path=0.0) == dataclasses.replace(two, path=0.0) for one, two in rows)
    assert close(at_once.path_ns, by_stretches.path_ns)
    assert by_stretches.verdict.kind == at_once.verdict.kind
    assert by_stretches.verdict.bottleneck in (at_once.verdict.bottleneck, *at_once.verdict.also)


def test_of_what_is_left_out_time_and_number_of_steps_are_known(pipeline):
    """Beyond the bound every second stretch goes, all over the run; the run still adds up, and says what is missing."""
    run = made(pipeline, 1, 0, n=800)
    long = stretched(run, 100, most=1500)
    left = [each for each in long.long.stretches if each.data is None]
    kept = sum(each.count for each in long.long.stretches if each.data is not None) + len(long.long.newest)
    assert left
    assert kept <= 1500
    assert long.long.stretches[0].data is not None  # the run's first steps are a phase of their own
    found, whole = summarise(long), summarise(run)
    parts = {part.name: part.total for part in found.run}
    assert parts[LEFT_OUT] == sum(each.ended - each.began for each in left)
    assert sum(parts.values()) + found.remainder_ns == found.wall_ns == whole.wall_ns
    assert found.remainder_ns == whole.remainder_ns
    assert found.series.count == whole.series.count == 800
    assert found.epochs == 2
    assert found.recorder.spans == whole.recorder.spans
    assert found.recorder.lost == 0
    assert found.step.mean == pytest.approx(whole.step.mean, rel=0.15)
    assert found.verdict.kind == whole.verdict.kind
    said = f"{sum(each.steps for each in left):,} steps of this long run"
    assert any(line.startswith(said) for line in found.unmeasured)


def test_however_long_the_run_no_more_is_kept(pipeline):
    """Ten times the steps: not more spans, not more stretches than twice what fits, and none is lost."""
    sizes = []
    for n in (300, 3000):
        long = stretched(made(pipeline, 2, 1, n=n), 100, most=1200).long
        held = [each for each in long.stretches if each.data is not None]
        assert sum(each.count for each in held) + len(long.newest) <= 1200
        assert all(b.began == a.ended for a, b in zip(long.stretches, long.stretches[1:], strict=False))
        sizes.append(len(long.stretches))
    assert max(sizes) <= 2 * 1200 // 100 + 1


def test_an_evaluation_over_many_stretches_is_an_evaluation(spans):
    """Steps inside one count as part of it, however many stretches lie between its beginning and its end."""
    t = 0
    for i in range(100):
        spans.add("step", t, t + MS, item=i).add("wait", t, t + 1000, item=i)
        t += MS
    began = t
    for i in range(400):
        spans.add("step", t, t + MS, item=100 + i).add("wait", t, t + 1000)
        t += MS
    spans.add("evaluate", began, t)
    for i in range(100):
        spans.add("step", t, t + MS, item=500 + i).add("wait", t, t + 1000, item=500 + i)
        t += MS
    run = spans.run()
    found, whole = summarise(stretched(run, 60)), summarise(run)
    assert found.run == whole.run
    assert {part.name: part.total for part in found.run}["evaluate (between steps)"] == 400 * MS
    assert (found.steady_steps, found.series.count) == (whole.steady_steps, whole.series.count) == (199, 200)


def test_the_points_of_a_long_series_are_bounded_and_seen_as_often_as_they_are(steady_run, monkeypatch):
    """One step of every k, not always the same of the k: of steps whose every eighth is slow, an eighth is."""
    monkeypatch.setattr("datapipe.profiling.analysis.STEP_CAP", 50)
    forward = np.where(np.arange(800) % 8 == 0, 20.0, 2.0)
    summary = summarise(steady_run(n=800, forward=forward))
    series = summary.series
    assert (series.count, series.every, len(series.number)) == (800, 16, 50)
    assert series.number == sorted(series.number)
    assert "Points are of one step in 16, 50 of 800" in report_html(summary)
    slow = sum(total > 20 * MS for total in series.total_ns)
    assert 3 <= slow <= 10  # an eighth of 50 is 6


def test_a_recorded_run_is_packed_summarised_and_replayable(tmp_path, monkeypatch):
    """From the loop to the files: every step is told, the newest spans are traced and kept as a run of their own."""
    monkeypatch.setattr("datapipe.profiling.recording.TAIL", 500)
    prof = profile(tmp_path)
    prof._archive._stretch, prof._archive._next = 400, 800
    with prof:
        for i in prof.steps(range(2500)):
            with prof.phase("forward"):
                pass
            if i % 300 == 0:
                prof._archive._take(least=1)
                while prof._archive._pack():
                    pass
        running = prof.summary()
    summary, raw = load_profile(tmp_path), prof.raw()
    assert running.series.count in (2499, 2500)
    assert len(raw.long.stretches) >= 5
    assert (summary.series.count, summary.steady_steps, summary.recorder.lost) == (2500, 2499, 0)
    assert summary.recorder.spans == 3 * 2500 + 1
    assert sum(part.total for part in summary.run) + summary.remainder_ns == summary.wall_ns
    about = trace(raw)["otherData"]
    assert about["spans"] + about["spans left out"] == 3 * 2500 + 1
    again = load_spans(tmp_path)
    assert 500 <= len(again.spans) < 3500  # the newest, of which packing leaves 800 and 900 more come, and a stretch
    ledger = build_ledger(again.spans, again.stages, began=again.began, ended=again.ended, wall=again.wall)
    assert again.began == again.spans["start"].min()
    assert ledger.run["startup"] == 0
