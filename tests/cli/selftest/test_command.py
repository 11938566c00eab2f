"""`datapipe selftest`: the table, the file and the exit code follow from the grades."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from datapipe.cli.main import app
from datapipe.cli.selftest import leaks, slow_rank, trial
from datapipe.cli.selftest.grading import Asked, Outcome


@pytest.fixture
def graded(monkeypatch):
    """Outcomes made up, for the command alone; `wrong` makes the bottleneck's name wrong."""

    def use(*, wrong):
        def outcome_of(_bench, case, again):
            rounds.append(again())
            asked = tuple(
                Asked(change="x", kind="faster", predicted=1e7, low=9e6, high=1.1e7, true=true, extrapolated=False)
                for true in (1e7, 1e7, 1e7, 1e7, 1.15e7)
            )
            return Outcome(
                name=case.name, fault=case.fault, healthy=case.healthy, step_ns=1e7,
                kind="not input-bound" if case.healthy else "input-bound", named="decode" if wrong else "forward",
                gains={"forward": 3e6}, remainder=0.0, delay=(1e6, 1e6), asked=asked, again_ns=1.02e7,
                others=0.0 if len(rounds) % 2 else 1.5,
            )  # fmt: skip

        rounds = []

        monkeypatch.setattr(trial, "outcome_of", outcome_of)
        monkeypatch.setattr(leaks, "leak_trials", lambda _bench, rounds: [(True, True)] * rounds)
        monkeypatch.setattr(slow_rank, "slow_ranks", lambda _folder, trials, **_more: [(1, 1)] * trials)
        monkeypatch.setattr(
            trial, "overhead_of", lambda _bench, pairs: dict.fromkeys(("recording", "with trace"), [0.0] * pairs)
        )
        return rounds

    return use


def test_grades_go_to_the_table_the_file_and_the_exit_code(graded, tmp_path):
    """All passed is 0; one missed is 1, said in the table and in the file."""
    runner = CliRunner()
    file = tmp_path / "grades" / "grades.json"
    graded(wrong=True)
    done = runner.invoke(app, ["selftest", "--quick", "-o", str(file)])
    assert done.exit_code == 1
    assert "MISSED  bottleneck named" in done.output
    assert "Noise of the truth (the same pipe run twice): median 2.00%" in done.output
    assert "other programs ran during 7 of 15 cases" in done.output
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


def test_a_run_that_ended_early_goes_on(graded, tmp_path, monkeypatch):
    """Each case is in the file once graded; --resume grades the others alone, and refuses a file of other cases."""
    runner, file = CliRunner(), tmp_path / "grades.json"
    rounds = graded(wrong=False)
    real = trial.outcome_of

    def breaks_down(bench, case, again):
        if len(rounds) == 4:
            raise KeyboardInterrupt
        return real(bench, case, again)

    monkeypatch.setattr(trial, "outcome_of", breaks_down)
    assert runner.invoke(app, ["selftest", "--quick", "-o", str(file)]).exit_code != 0
    found = json.loads(file.read_text())
    assert (found["graded"], found["cases"], found["ok"]) == (4, 15, False)
    monkeypatch.setattr(trial, "outcome_of", real)
    runner.invoke(app, ["selftest", "--quick", "--resume", "-o", str(file)])
    found = json.loads(file.read_text())
    assert len({outcome["name"] for outcome in found["outcomes"]}) == found["graded"] == 15
    assert len(rounds) == 15
    other = runner.invoke(app, ["selftest", "--quick", "--resume", "--seed", "1", "-o", str(file)])
    assert other.exit_code == 2
    file.write_text("{}")
    assert runner.invoke(app, ["selftest", "--quick", "--resume", "-o", str(file)]).exit_code == 2
    assert runner.invoke(app, ["selftest", "--resume"]).exit_code == 2


def test_time_that_is_up_begins_no_case(graded, tmp_path, monkeypatch):
    """Of 10 s each case takes 4: three are begun, and the case that is behind the clock is not run again."""
    rounds, file, now = graded(wrong=False), tmp_path / "grades.json", [0.0]
    real = trial.outcome_of

    def slow(bench, case, again):
        made = real(bench, case, again)
        now[0] += 4.0
        return made

    monkeypatch.setattr(trial, "outcome_of", slow)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    done = CliRunner().invoke(app, ["selftest", "--cases", "4", "--seconds", "10", "-o", str(file)])
    assert done.exit_code == 1
    assert "3 of 4 cases in 12 s" in done.output
    assert rounds == [True, False, False]
