"""Fixes as a terminal and a page show them."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from datapipe.profiling.advice import Advice, Applied, Fix
from datapipe.profiling.advice_chart import fix_rows
from datapipe.profiling.advice_terminal import SHOWN, fix_items
from datapipe.profiling.terminal import visible

MS = 1e6


def fix(title="more threads", step=6.0, low=5.0, high=7.0, **more):
    facts = {"do": "DataLoader(…, num_threads=4)", "cost": "memory", "effort": 0, "extrapolated": False, "reason": ""}
    return Fix(
        title=title, recorded_ns=10 * MS, step_ns=step * MS, low=low * MS, high=high * MS, gain=1 - step / 10,
        **(facts | more),
    )  # fmt: skip


def printed(advice):
    console = Console(file=io.StringIO(), width=200, color_system=None)
    for item in fix_items(advice, visible):
        console.print(item)
    return console.file.getvalue()


def test_the_three_best_are_shown_with_interval_and_what_to_type():
    text = printed(Advice(fixes=tuple(fix(f"fix {i}", extrapolated=i == 1) for i in range(5)), sentence="5 fixes"))
    assert [f"fix {i}" in text for i in range(5)] == [True] * SHOWN + [False] * 2
    assert "saves 40%: 6.00 ms a step (80%: 5.00 ms to 7.00 ms)" in text
    assert text.count("extrapolated") == 1
    assert text.count("DataLoader(…, num_threads=4)") == SHOWN
    assert "2 more in report.html" in text


def test_no_fix_says_why_and_an_applied_one_what_came_of_it():
    done = Applied(
        title="more threads", options={"num_threads": 4}, recorded_ns=10 * MS, predicted_ns=6 * MS, low=5 * MS,
        high=7 * MS, measured_ns=6.5 * MS, inside=True, error=-0.077, p=0.001,
    )  # fmt: skip
    text = printed(Advice(fixes=(), sentence="Nothing would gain 2%.", applied=(done,)))
    assert "Nothing would gain 2%." in text
    assert "measured 6.50 ms" in text


def test_hostile_texts_do_not_steer_the_terminal():
    text = printed(Advice(fixes=(fix("\x1b[2J[bold]x", do="\x1b]0;owned\x07"),), sentence=""))
    assert "\\x1b[2J[bold]x" in text
    assert "\x1b" not in text
    assert "\x07" not in text


@given(
    st.lists(
        st.tuples(*(st.floats(0, 1e3, allow_nan=False) for _ in range(3))).map(sorted),
        min_size=1, max_size=6,
    )
)  # fmt: skip
def test_every_place_lies_on_the_scale(steps):
    """Whatever was predicted: 0 ≤ places ≤ 100, the interval's end included, and the recorded step is on the scale."""
    fixes = tuple(fix(step=step, low=low, high=high) for low, step, high in steps)
    for row in fix_rows(Advice(fixes=fixes, sentence="")):
        assert 0 <= row.low <= row.low + row.width <= 100.01
        assert 0 <= row.step <= 100
        assert 0 < row.recorded <= 100


def test_fixes_share_one_scale():
    rows = fix_rows(Advice(fixes=(fix(step=6), fix(step=3, low=2, high=4)), sentence=""))
    assert rows[0].recorded == rows[1].recorded
    assert rows[0].step == pytest.approx(2 * rows[1].step, abs=0.02)
    assert fix_rows(None) == []
