"""The differential: runs with and without the loader, and what they say together."""

import pytest

from datapipe.profiling import load_profile, render
from datapipe.profiling.analysis import summarise
from datapipe.profiling.differential import differential, left_out
from datapipe.profiling.differential_chart import rows
from datapipe.profiling.profile_file import save_profile
from datapipe.profiling.report import report_html


@pytest.fixture
def runs(steady_run):
    """Summaries by kind: a step of 5 ms compute and 5 ms wait; the loader alone takes 10 ms."""

    def make(**changed):
        shapes = {
            "as-is": {"wait": 5.0}, "cached": {"wait": 0.01}, "synthetic": {"wait": 0.01},
            "loader": {"wait": 10.0, "forward": 0.0, "backward": 0.0},
        }  # fmt: skip
        return {
            name: [summarise(steady_run(n=60, **{"forward": 2.0, "backward": 3.0} | shape | changed.get(name, {})))] * 2
            for name, shape in shapes.items()
        }

    return make


def compare(runs, failed=None):
    return differential(runs, failed or {}, rounds=2, steps=60, skip=18)


def test_headspace_and_floor_are_what_the_runs_show(runs):
    """The drop of the step without its loader, and what is left of it; the ledger's floor is the same."""
    found = compare(runs())
    assert found.floor == pytest.approx(5.01e6, rel=1e-3)
    assert found.ledger_floor == pytest.approx(5e6, rel=1e-3)
    assert found.headspace == pytest.approx(0.5, abs=0.01)
    assert found.loader == pytest.approx(10e6, rel=1e-3)
    assert found.agrees is True
    assert found.variant("cached").steps == 2 * 42
    assert "Headspace 50%" in found.sentence


def test_where_the_ledger_does_not_agree_the_part_is_named(runs):
    """Backward takes twice as long beside the loader: the ledger calls that compute, and the runs show it is not."""
    found = compare(runs(cached={"backward": 1.5}))
    assert found.agrees is False
    assert any(line.startswith("In backward: 3.00 ms as it is, 1.50 ms without") for line in found.lines)


def test_runs_that_differ_among_themselves_tell_nothing(runs, steady_run):
    """Two runs as it is, one twice as long as the other: no statement about the ledger."""
    made = runs()
    made["as-is"] = [made["as-is"][0], summarise(steady_run(n=60, wait=15.0, forward=2.0, backward=3.0))]
    found = compare(made)
    assert found.agrees is None
    assert any("cannot be told" in line for line in found.lines)


def test_a_kind_that_failed_is_named_and_nothing_rests_on_it(runs):
    """Without batches in memory there is no floor."""
    made = runs()
    del made["cached"]
    found = compare(made, {"cached": "it ended with code 3"})
    assert (found.floor, found.headspace, found.agrees) == (None, None, None)
    assert "cached batches: not measured, it ended with code 3." in found.lines
    assert found.variant("cached") is None


def test_what_is_left_of_a_kind_is_compared(runs):
    """One run of two failed: the other counts, and the missing one is told."""
    made = runs()
    made["loader"] = made["loader"][:1]
    found = compare(made, {"loader": "it ended with code 1"})
    assert found.loader == pytest.approx(10e6, rel=1e-3)
    assert "loader alone: one of its runs is missing, it ended with code 1." in found.lines


def test_a_first_batch_unlike_the_others_is_said(runs):
    """One batch repeated at twice the compute is no floor."""
    found = compare(runs(synthetic={"forward": 7.0}))
    assert any(line.startswith("One batch repeated takes 10.0 ms") for line in found.lines)


def test_a_short_run_still_has_steps_to_compare():
    """At most half of a run is left out."""
    assert [left_out(steps, 16) for steps in (100, 20, 3, 1)] == [18, 10, 1, 1]


def test_it_is_kept_shown_and_drawn(runs, tmp_path):
    """The profile's file, the terminal and the page hold it; the longest bar fills the width."""
    import io
    from dataclasses import replace

    from rich.console import Console

    made = runs()
    summary = replace(made["as-is"][0], differential=compare(made))
    save_profile(summary, tmp_path)
    assert load_profile(tmp_path) == summary
    said = Console(file=io.StringIO(), width=120)
    said.print(render(summary))
    assert "Headspace 50%" in said.file.getvalue()
    page = report_html(summary)
    assert "Headspace 50%" in page
    assert "as it is" in page
    drawn = rows(summary.differential)
    assert max(row.work + row.wait for row in drawn) == pytest.approx(100, abs=0.1)
    assert "Headspace" not in report_html(made["as-is"][0])
