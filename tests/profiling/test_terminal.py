from __future__ import annotations

import dataclasses
import io
import re

import pytest
from rich.console import Console

from datapipe.profiling import render
from datapipe.profiling.advice import Advice, Fix
from datapipe.profiling.analysis import summarise


def printed(summary, width=100):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(render(summary))
    return console.file.getvalue()


def test_it_says_the_verdict_first_and_the_ledger_to_100_percent(steady_run):
    """The sentence, then the bar, then parts that sum to 100.0% and a run that ends in its remainder and wall."""
    summary = summarise(steady_run())
    text = printed(summary)
    assert text.startswith(summary.verdict.sentence[:40])
    rows = dict(re.findall(r"^ ?(?:[█▓▒░] )?(\w+) .* ([\d.]+)%", text.split("the whole run")[0], re.MULTILINE))
    assert sum(float(rows[part.name]) for part in summary.parts) == pytest.approx(100, abs=0.2)
    assert float(rows["step"]) == 100.0
    assert "remainder" in text
    assert sum(text.count(shade) for shade in "█▓▒░") >= 60


def test_each_part_has_a_character_of_its_own(spans):
    """Without colour too no two parts of the step look alike, and the ledger says which is which."""
    for i in range(20):
        spans.add("step", i * 1000, i * 1000 + 1000, item=i)
        for k in range(9):
            spans.add(f"part-{k}", i * 1000 + 100 * k, i * 1000 + 100 * k + 100)
    text = printed(summarise(spans.run()))
    marks = dict(re.findall(r"^ ?(\S) (part-\d|other)", text, re.MULTILINE))
    assert len(marks) == 10
    assert any(set(line.strip()) == set(marks) for line in text.splitlines())  # the bar


def test_fixes_stand_under_the_bar(steady_run):
    """The verdict, the bar, what to do about it, and only then the tables; without advice the bar alone."""
    fix = Fix(
        title="more threads", do="num_threads=4", cost="", effort=0, gain=0.3, recorded_ns=6e6, step_ns=4e6, low=3e6,
        high=5e6, extrapolated=False, reason="",
    )  # fmt: skip
    summary = summarise(steady_run())
    text = printed(dataclasses.replace(summary, advice=Advice(fixes=(fix,), sentence="1 fix")))
    assert text.index("█") < text.index("1. more threads") < text.index("num_threads=4") < text.index("steady step")
    assert "more threads" not in printed(dataclasses.replace(summary, advice=None))


def test_markup_in_names_is_text(spans):
    """A phase named like markup is printed as it is."""
    for i in range(20):
        spans.add("step", i * 100, i * 100 + 100, item=i).add("[bold]x[/bold]", i * 100, i * 100 + 50)
    assert "[bold]x[/bold]" in printed(summarise(spans.run()))


def test_runs_without_steps_and_cut_short_are_shown(spans):
    text = printed(summarise(spans.add("fetch", 0, 10).run(complete=False, error="OSError")))
    assert "No steps" in text
    assert "OSError" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_any_width_will_do(steady_run, width):
    assert all(len(line) <= width for line in printed(summarise(steady_run()), width).splitlines())


def test_nothing_in_a_profile_steers_the_terminal(spans):
    """Control characters in names, the verdict and the error are printed as escapes."""
    evil = "\x1b]0;owned\x07\x1b[31mred\r\x9b2J\u202e"
    for i in range(20):
        spans.add("step", i * 100, i * 100 + 100, item=i).add(evil, i * 100, i * 100 + 90)
    spans.add(evil, 2_050, 2_080)
    text = printed(summarise(spans.run(ended=2_100, complete=False, error=evil)), 300)
    assert text.count("\\x1b]0;owned\\x07\\x1b[31mred\\r\\x9b2J\\u202e") >= 4
    assert not set(text) & set("\x1b\x07\r\x9b\u202e")
