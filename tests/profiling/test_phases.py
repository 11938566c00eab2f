"""Evaluations and checkpoints between the steps."""

import numpy as np

from datapipe.profiling.analysis import summarise
from datapipe.profiling.charts import WIDTH, step_chart
from datapipe.profiling.phases import MOST
from datapipe.profiling.report import report_html

MS = 1_000_000


def with_phases(spans, steps=20):
    """Twenty steps of 10 ms; an evaluation of three batches after the tenth, a checkpoint inside the fifteenth."""
    t = 0
    for i in range(steps):
        spans.add("wait", t, t + MS, item=i)
        spans.add("forward", t + MS, t + 4 * MS)
        if i == 14:
            spans.add("checkpoint", t + 5 * MS, t + 9 * MS)
        spans.add("step", t, t + 10 * MS, item=i)
        t += 10 * MS
        if i == 9:
            for _ in range(3):
                spans.add("evaluate", t, t + 2 * MS)
                t += 3 * MS
    return spans.run()


def test_an_evaluation_is_one_phase_and_knows_its_place(spans):
    """Three batches after ten steps took 6 ms together, what lay between them left out."""
    found = summarise(with_phases(spans)).phases
    assert [(phase.name, phase.step, phase.ns) for phase in found] == [
        ("evaluate", 10, 6 * MS),
        ("checkpoint", 15, 4 * MS),
    ]
    assert found[0].start_ns == 100 * MS


def test_the_chart_marks_them_where_they_were(spans):
    """Halfway, and at three quarters; the legend says what they are."""
    summary = summarise(with_phases(spans))
    chart = step_chart(summary.series, summary.step, summary.phases)
    assert chart.marks == [(WIDTH / 2, "evaluate"), (WIDTH * 0.75, "checkpoint")]
    assert chart.told == [
        ("evaluate", "evaluation, 6.00 ms on average"),
        ("checkpoint", "checkpoint, 4.00 ms on average"),
    ]
    page = report_html(summary)
    assert 'class="mark evaluate"' in page
    assert "evaluation, 6.00 ms" in page


def test_very_many_are_thinned(spans):
    """A checkpoint in every step is not drawn a thousand times."""
    for i in range(5 * MOST):
        spans.add("checkpoint", i * 10 + 2, i * 10 + 4).add("step", i * 10, i * 10 + 10, item=i)
    found = summarise(spans.run()).phases
    assert len(found) == MOST
    assert set(np.diff([phase.step for phase in found]).tolist()) == {5}
