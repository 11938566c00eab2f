"""The page of a search."""

import re
from xml.etree import ElementTree as ET

import pytest

from datapipe.train.tuning.chart import range_page, search_page
from datapipe.train.tuning.options import Plan
from datapipe.train.tuning.range_test import RangeTest
from datapipe.train.tuning.trials import TrialRow, TuneResult, rank


def row(number, curve, end="pruned", **values):
    return TrialRow(
        number=number, values=values, end=end, rung=len(curve), loss=curve[-1][1] if curve else None,
        curve=tuple(curve), steps=3, tokens=9, step_ms=1.5, seconds=2.0, why="" if end != "failed" else "a <b> & c",
        folder="x",
    )  # fmt: skip


@pytest.fixture
def result():
    rows = [
        row(0, [(1.0, 4.0), (3.0, 3.0)], "complete", lr=0.01, mode="<script>"),
        row(1, [(1.0, 4.2)], lr=0.001, mode="b"),
        row(2, [(1.0, 900.0)], lr=3.0, mode="b"),
        row(3, [], "failed", lr=0.5, mode="b"),
        row(4, [(1.0, 2.5)], "unfinished", lr=0.02, mode="b"),
    ]
    plan = Plan(resource="steps", amounts=(1.0, 3.0), factors=(1, 3))
    return TuneResult(rows=rank(rows), plan=plan, spent_s=10.0, budget_s=60.0, space=("lr", "mode"), stopped=None)


def figures(page):
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def test_every_trial_that_reached_a_rung_is_in_every_panel(result):
    """Four of the five, inside the box, the best in its colour; the loss that is far above is counted at the edge."""
    page = search_page(result, title="a & b")
    drawn = figures(page)
    assert len(drawn) == 3
    for svg in drawn:
        circles = [node for node in svg.iter() if node.tag == "circle"]
        tips = {node.find("title").text.split(":")[0] for node in circles}
        assert tips == {"trial 0", "trial 1", "trial 2", "trial 4"}
        assert all(54 <= float(node.get("cx")) <= 448 and 12 <= float(node.get("cy")) <= 220 for node in circles)
        assert {node.find("title").text[:7] for node in circles if node.get("class") == "best"} == {"trial 0"}
        assert any("1 above" in (node.text or "") for node in svg.iter("text"))
    assert page.count("<tr") == 6


def test_the_page_needs_nothing_else_and_runs_nothing(result):
    """Names and values from outside are text; there is no script and no link."""
    page = search_page(result, title="<script>alert(1)</script>")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "a &lt;b&gt; &amp; c" in page
    assert not re.search(r"(src|href)=|url\(|@import", page)


def test_a_search_without_a_trial_has_a_page():
    """Nothing reached a rung: no panel, and no error."""
    plan = Plan(resource="steps", amounts=(1.0,), factors=(1,))
    empty = TuneResult(rows=(), plan=plan, spent_s=0.0, budget_s=1.0, space=("lr",), stopped=None)
    assert figures(search_page(empty, title="x")) == []


def test_a_range_test_has_its_curves_and_its_suggestion():
    """Raw and smoothed losses, and a mark at the suggested rate."""
    rates = tuple(10.0**-n for n in range(6, 0, -1))
    test = RangeTest(
        rates=rates, losses=(4, 4, 3, 2, 2, 9), smoothed=(4, 4, 3.5, 3, 2.9, 5), suggestion=rates[3], tenth=1e-3,
        why="", ran_away=True,
    )  # fmt: skip
    (svg,) = figures(range_page(test, title="x"))
    assert len(list(svg.iter("polyline"))) == 2
    assert [node.get("class") for node in svg.iter("circle")][-1] == "best"
