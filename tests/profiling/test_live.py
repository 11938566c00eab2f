"""Live figures: what they say of spans with a known answer, and that no sink harms a run."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe import events
from datapipe.profiling import profile
from datapipe.profiling.analysis import summarise
from datapipe.profiling.live import SPANS, STEPS, Watch, look

MS = 1_000_000


class Held:
    """A ring whose spans are given."""

    thread, name, lost = 0, "given", 0

    def __init__(self, spans):
        self._spans = spans
        self.count = len(spans)

    def array(self):
        return self._spans.copy()


def recorder_of(run):
    """A recorder that holds a run's spans, a ring per thread."""
    recorder = events.Recorder(16)
    for name in run.stages:
        recorder.stage(name)
    for thread in np.unique(run.spans["thread"]):
        recorder.adopt(lambda _, thread=thread: Held(run.spans[run.spans["thread"] == thread]))
    return recorder


def test_the_figures_are_those_of_the_newest_steps(pipeline):
    """A pipeline whose decoding turns slow: the figures are the ledger's own over the last steps, decode is named."""
    services = np.full((3, 400), 1.0 * MS)
    services[1, 200:] = 6 * MS
    run = pipeline(services, np.full(400, 2.0 * MS)).spans().run(began=1)
    figures = look(recorder_of(run))
    assert figures.steps == 400
    assert figures.window == STEPS
    assert figures.bottleneck == "decode"
    assert figures.stall == pytest.approx(4 / 6, abs=0.02)
    assert figures.step_seconds == pytest.approx(0.006, rel=0.02)
    assert str(figures) == "step 400 · 6.00 ms · stalled 67% · bound by decode"


def test_a_steady_run_agrees_with_its_report(steady_run):
    run = steady_run(n=300, wait=2.0)
    figures, verdict = look(recorder_of(run)), summarise(run).verdict
    assert figures.stall == pytest.approx(verdict.input_share)
    assert figures.bottleneck == verdict.bottleneck


def test_nothing_is_said_before_two_steps_ended(spans):
    assert look(events.Recorder(16)) is None
    assert look(recorder_of(spans.add("wait", 1, 2).add("step", 1, 5, item=0).run())) is None


def test_a_span_under_the_pen_is_left_out(steady_run):
    """A torn record of another process's ring (times out of order, a stage that is none) changes nothing."""
    run = steady_run(n=50)
    torn = run.spans[-3:].copy()
    torn["end"][0], torn["stage"][1], torn["start"][2] = 0, 60_000, 0
    recorder = recorder_of(run)
    before = look(recorder)
    recorder.adopt(lambda _: Held(np.concatenate([torn[:1], torn[1:]])))
    after = look(recorder)
    assert (after.steps, after.stall, after.step_seconds) == (before.steps, before.stall, before.step_seconds)


def test_a_look_reads_a_bounded_number_of_spans(steady_run):
    """However long the run, at most `SPANS` of each thread are analysed."""
    figures = look(recorder_of(steady_run(n=20_000)))
    assert figures.window <= min(STEPS, SPANS)
    assert figures.steps == 20_000


def test_a_run_tells_its_sinks_at_the_end_and_closes_them(tmp_path):
    """A run shorter than a second is told of once; a sink that raises is dropped, noted, and the batches still come."""

    class Good:
        def __init__(self):
            self.seen, self.closed = [], 0

        def __call__(self, figures):
            self.seen.append(figures)

        def close(self):
            self.closed += 1

    class Bad(Good):
        def __call__(self, figures):
            raise RuntimeError("no such host")

    good, bad = Good(), Bad()
    with profile(tmp_path, live=[bad, good]) as prof:
        assert list(prof.steps(range(20))) == list(range(20))
    assert good.seen[-1].steps == 20
    assert (good.closed, bad.closed) == (1, 0)
    assert "no such host" in prof.summary().notes["live: Bad"]


def test_a_dear_look_is_followed_by_a_long_pause():
    """The pause is as long as keeps looking at 0.5% of a core, and at least what was asked; imports are paid once."""
    watch = Watch(events.Recorder(16), [], every=1.0)
    pauses, takes = [], iter([9.0, 0.0001, 0.1, 0.001])

    class Done:
        def wait(self, pause):
            pauses.append(pause)
            return len(pauses) > 4

    watch._done, watch.tell = Done(), lambda: next(takes)
    watch._watch()
    assert pauses == pytest.approx([1.0, 1.0, 1.0, 20.0, 1.0])
