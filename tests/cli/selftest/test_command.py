"""`datapipe selftest`: the table, the file and the exit code follow from the grades."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from datapipe.cli.main import app
from datapipe.cli.selftest import slow_rank, trial
from datapipe.cli.selftest.grading import Asked, Outcome


@pytest.fixture
def graded(monkeypatch):
    """Outcomes made up, for the command alone; `wrong` makes the bottleneck's name wrong."""

    def use(*, wrong):
        def outcome_of(_bench, case, rounds):
            asked = tuple(
                Asked(change="x", predicted=1e7, low=9e6, high=1.1e7, true=true, extrapolated=False)
                for true in (1e7, 1e7, 1e7, 1e7, 1.15e7)
            )
            return Outcome(
                name=case.name, fault=case.fault, healthy=case.healthy, step_ns=1e7,
                kind="not input-bound" if case.healthy else "input-bound", named="decode" if wrong else "forward",
                gains={"forward": 3e6}, remainder=0.0, delay=(1e6, 1e6), asked=asked[: 5 if rounds else 0],
            )  # fmt: skip

        monkeypatch.setattr(trial, "outcome_of", outcome_of)
        monkeypatch.setattr(slow_rank, "slow_ranks", lambda _folder, trials, **_more: [(1, 1)] * trials)
        monkeypatch.setattr(
            trial, "overhead_of", lambda _bench, pairs: dict.fromkeys(("recording", "with trace"), [0.0] * pairs)
        )

    return use


def test_grades_go_to_the_table_the_file_and_the_exit_code(graded, tmp_path):
    """All passed is 0; one missed is 1, said in the table and in the file."""
    runner = CliRunner()
    file = tmp_path / "grades" / "grades.json"
    graded(wrong=True)
    done = runner.invoke(app, ["selftest", "--quick", "-o", str(file)])
    assert done.exit_code == 1
    assert "MISSED  bottleneck named" in done.output
    found = json.loads(file.read_text())
    assert not found["ok"]
    assert len(found["outcomes"]) == found["cases"] == 15
    assert [gate["passed"] for gate in found["gates"] if "bottleneck" in gate["measure"]] == [False]


def test_machines_get_one_object(graded):
    graded(wrong=False)
    done = CliRunner().invoke(app, ["selftest", "--cases", "15", "--json"])
    found = json.loads(done.stdout)
    assert {gate["measure"] for gate in found["gates"] if not gate["passed"]} <= {"what-if error, 95th percentile"}
    assert done.exit_code == (0 if found["ok"] else 1)
