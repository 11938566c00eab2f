from __future__ import annotations

import pytest

from datapipe.profiling.analysis import summarise
from datapipe.profiling.charts import BINS, bar, memory_chart, round_ticks, step_chart


def test_a_bar_covers_all_and_no_more(steady_run):
    slices = bar(summarise(steady_run(noise=0.3)).parts)
    assert sum(s.width for s in slices) == pytest.approx(100, abs=0.01)
    for one, two in zip(slices, slices[1:], strict=False):
        assert two.x == pytest.approx(one.x + one.width, abs=0.01)


@pytest.mark.parametrize("n", [2, 3, 239, 240, 241, 1000, 25_000])
def test_any_length_fits_the_chart(steady_run, n):
    """At most `BINS` columns, and each step in exactly one of them."""
    summary = summarise(steady_run(n=n))
    chart = step_chart(summary.series, summary.step)
    assert len(chart.columns) <= BINS
    assert chart.columns[0][0] == 0
    assert chart.columns[-1][1] == summary.series.number[-1]
    assert {name for name, _ in chart.areas} == {"wait", "forward", "backward"}


def test_what_is_higher_than_the_chart_is_counted(steady_run):
    wait = [1.0] * 100
    wait[50] = 900.0
    summary = summarise(steady_run(n=100, wait=wait))
    assert step_chart(summary.series, summary.step).clipped == 1


def test_one_step_is_no_chart(steady_run):
    summary = summarise(steady_run(n=1))
    assert step_chart(summary.series, summary.step) is None
    assert memory_chart([(0.0, 1)]) is None


@pytest.mark.parametrize("top", [1e-6, 0.3, 1, 7, 99.5, 12_345])
def test_ticks_are_few_round_and_within(top):
    ticks = round_ticks(top)
    assert 2 <= len(ticks) <= 6
    assert ticks[0] == 0
    assert ticks[-1] <= top * (1 + 1e-9)
