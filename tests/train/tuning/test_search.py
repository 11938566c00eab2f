"""The search: what ended is not run again, what was cut short is taken up, what cannot go on is told."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.storages.journal import JournalFileBackend

from datapipe.errors import ConfigError, LoaderError, NoSpaceError, TrainError
from datapipe.train.tuning import Choice, Contender, Range, TuneOptions, search, trial_run, tune
from datapipe.train.tuning.trial_run import Progress, Rung

OPTIONS = TuneOptions(
    space={"lr": Range(low=1e-3, high=0.3, log=True)}, budget_s=1e6, trials=3, resource="steps", rungs=2, seed=1
)
STEPS = 3


@pytest.fixture
def contend(make_loader, make_config, make_shape):
    """Trains what it is given; `read` counts batches, `at` is called before each."""

    class Contend:
        def __init__(self):
            self.read, self.at = 0, lambda _n: None

        def change(self, _position, batch):
            self.read += 1
            self.at(self.read)
            return batch

        @contextlib.contextmanager
        def __call__(self, values):
            config = make_config(steps=STEPS, model=make_shape(layers=1), lr=values["lr"])
            yield Contender(config=config, loader=make_loader(change=self.change))

    return Contend()


def run_killed(tmp_path, *moments):
    line = [sys.executable, str(Path(__file__).parent / "searched_run.py"), str(tmp_path), *moments]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    outcomes = json.loads(done.stdout)
    return outcomes.pop("undisturbed"), outcomes


def check_as_undisturbed(whole, outcomes):
    assert [row[2] for row in whole["rows"]].count("complete") >= 1
    assert whole["kept"], "the best one's checkpoint is there to go on from"
    for moment, got in outcomes.items():
        assert got["rows"] == whole["rows"], moment
        assert got["kept"] == whole["kept"], moment
        # At least what the killed start had done, but for the batch it was killed at, was not read again.
        assert got["read"] <= whole["read"], moment
    return {moment: got["read"] for moment, got in outcomes.items()}


def test_a_search_killed_by_sigkill_goes_on_as_if_it_had_not_been(tmp_path):
    """Killed in a trial after nine of its batches, it takes that trial up: the same values, losses and ends."""
    whole, outcomes = run_killed(tmp_path, "before report 4")
    read = check_as_undisturbed(whole, outcomes)
    assert read["before report 4"] <= whole["read"] - 9


@pytest.mark.slow
def test_a_search_killed_at_any_moment(tmp_path):
    """In a batch, about a report, before and after an end, while a trial is drawn: always the undisturbed outcome."""
    whole, outcomes = run_killed(tmp_path)
    read = check_as_undisturbed(whole, outcomes)
    assert len(read) == 9
    assert read["after tell 3"] < read["before tell 1"] < read["batch 2"]


def test_what_ended_is_never_run_again(tmp_path, contend):
    """A second start reads no batch and tells the same; more trials are added to those that are there."""
    first = tune(OPTIONS, contend, out=tmp_path, steps=STEPS, first={"lr": 0.01})
    assert (len(first.rows), first.stopped) == (3, None)
    assert next(row for row in first.rows if row.number == 0).values == {"lr": 0.01}
    assert first.best == min((row for row in first.rows if row.rung == 2), key=lambda row: row.loss)
    read, contend.read = contend.read, 0
    assert read == sum(row.steps for row in first.rows)
    told = []
    again = tune(OPTIONS, contend, out=tmp_path, steps=STEPS, on_trial=told.append)
    assert (again.rows, contend.read, told) == (first.rows, 0, [])
    more = tune(replace(OPTIONS, trials=5), contend, out=tmp_path, steps=STEPS, on_trial=told.append)
    assert [row.number for row in told] == [3, 4]
    assert all(more.rows_by_number()[row.number] == row for row in first.rows)

    with pytest.raises(ConfigError, match="another search: its options"):
        tune(replace(OPTIONS, seed=2), contend, out=tmp_path, steps=STEPS)
    with pytest.raises(ConfigError, match="another search: its about"):
        tune(OPTIONS, contend, out=tmp_path, steps=STEPS, about="other data")
    with pytest.raises(ConfigError, match="another search: its rungs"):
        tune(replace(OPTIONS, first_rung=2, eta=3, rungs=2), contend, out=tmp_path, steps=6)


def test_what_cannot_go_on_is_told_and_the_search_goes_on(tmp_path, contend, make_loader, make_config):
    """A trial that cannot learn is pruned, a fault of the loader fails it, and both have their reason."""

    @contextlib.contextmanager
    def troubled(values):
        def broken(_position, batch):
            raise LoaderError("a disk that went away")

        with contend({"lr": 0.01}) as made:
            if values["kind"] == "nan":
                one = make_loader(change=lambda _p, batch: {name: t[:, :1] for name, t in batch.items()})  # no target
                yield replace(made, loader=one)
            else:
                yield made if values["kind"] == "good" else replace(made, loader=make_loader(change=broken))

    options = replace(OPTIONS, space={"kind": Choice(values=("good", "nan", "broken"))}, trials=12)
    rows = tune(options, troubled, out=tmp_path, steps=STEPS).rows
    ends = {row.values["kind"]: row for row in rows}
    assert set(ends) == {"good", "nan", "broken"}
    assert (ends["nan"].end, ends["broken"].end) == ("pruned", "failed")
    assert "no target" in ends["nan"].why
    assert "a disk that went away" in ends["broken"].why
    assert rows[0].values == {"kind": "good"}
    assert rows[-1].end == "failed"
    assert not list(Path(ends["nan"].folder).glob("checkpoints"))

    hopeless = replace(OPTIONS, space={"kind": Choice(values=("broken",))}, trials=100)
    with pytest.raises(TrainError, match="first 5 trials failed, the last with: LoaderError: a disk"):
        tune(hopeless, troubled, out=tmp_path / "b", steps=STEPS)


def test_a_trial_that_ends_its_process_is_given_up(tmp_path, contend):
    """Begun three times and never ended, it counts as failed, and the next one is drawn."""

    @contextlib.contextmanager
    def dying(values):
        raise SystemExit(9)
        yield

    for _ in range(3):
        with pytest.raises(SystemExit):
            tune(replace(OPTIONS, trials=2), dying, out=tmp_path, steps=STEPS)
    rows = tune(replace(OPTIONS, trials=2), contend, out=tmp_path, steps=STEPS).rows_by_number()
    assert (rows[0].end, rows[1].end) == ("failed", "complete")
    assert "begun 3 times" in rows[0].why


def test_a_signal_ends_it_with_the_trial_to_be_gone_on_with(tmp_path, contend):
    """SIGTERM in a step: that step is done and saved, no further trial begins; the next start goes on from it."""
    contend.at = lambda n: os.kill(os.getpid(), signal.SIGTERM) if n == 2 else None
    result = tune(OPTIONS, contend, out=tmp_path, steps=STEPS)
    assert result.stopped == "SIGTERM"
    assert [(row.number, row.end, row.steps) for row in result.rows] == [(0, "unfinished", 2)]
    contend.at, contend.read = lambda _n: None, 0
    rows = tune(OPTIONS, contend, out=tmp_path, steps=STEPS).rows_by_number()
    assert len(rows) == 3
    assert contend.read == sum(row.steps for row in rows.values()) - 2


def test_nothing_is_begun_that_does_not_fit_the_budget(tmp_path, monkeypatch, contend):
    """A rung that would not fit waits, and the search goes on with cheaper ones; a larger budget takes it up first."""
    clock, calls = [0.0], []

    def fake_rung(_contender, _folder, plan, rung):
        clock[0] += plan.amounts[rung] - (plan.amounts[rung - 1] if rung else 0)
        calls.append(rung)
        # Each better than all before it: none is pruned.
        return Rung(loss=1 / len(calls), progress=Progress(steps=1, tokens=1, seconds=1, pace=1.0))

    monkeypatch.setattr(search, "run_rung", fake_rung)
    monkeypatch.setattr(search.time, "perf_counter", lambda: clock[0])
    options = replace(OPTIONS, resource="seconds", first_rung=10.0, budget_s=35.0, trials=50)
    result = tune(options, contend, out=tmp_path, steps=STEPS)
    # 10 s, then 20 s more; the second trial has no room for its first rung.
    assert [(row.number, row.end) for row in result.rows] == [(0, "complete")]
    assert (clock[0], result.spent_s, calls) == (30.0, 30.0, [0, 1])

    result = tune(replace(options, budget_s=55.0), contend, out=tmp_path, steps=STEPS)
    assert [(row.number, row.end) for row in result.rows_by_number().values()] == [
        (0, "complete"), (1, "unfinished"), (2, "unfinished")
    ]  # fmt: skip
    assert (result.spent_s, calls[2:]) == (50.0, [0, 0])

    told = []
    result = tune(replace(options, budget_s=100.0), contend, out=tmp_path, steps=STEPS, on_trial=told.append)
    assert [(row.number, row.end) for row in told] == [(1, "complete"), (2, "complete"), (3, "unfinished")]
    assert (result.spent_s, calls[4:]) == (100.0, [1, 1, 0])


def test_folders_that_hold_something_else(tmp_path, contend):
    """A journal that is none is an error of this package's, with what to do."""
    (tmp_path / search.JOURNAL).write_bytes(b"nothing of the kind\n" * 100)
    with pytest.raises(TrainError, match=r"search\.journal") as caught:
        tune(OPTIONS, contend, out=tmp_path, steps=STEPS)
    assert "another folder" in caught.value.fix


def test_a_full_disk_ends_the_search_and_room_lets_it_go_on(tmp_path, contend, monkeypatch):
    """Whatever is being written: NoSpaceError, no trial is lost, and the outcome is that of a search with room."""
    whole = tune(OPTIONS, contend, out=tmp_path / "whole", steps=STEPS)
    room = [0]

    def full(self, logs, real=JournalFileBackend.append_logs):
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, logs)

    monkeypatch.setattr(JournalFileBackend, "append_logs", full)
    refused = 0
    for _ in range(40):
        room[0] = 7
        try:
            found = tune(OPTIONS, contend, out=tmp_path / "full", steps=STEPS)
            break
        except NoSpaceError:
            refused += 1
    assert refused > 3
    ends = {(row.number, row.end, row.curve) for row in found.rows}
    assert ends == {(row.number, row.end, row.curve) for row in whole.rows}

    @contextlib.contextmanager
    def broken(_values):
        raise OSError("the loader's own")
        yield

    room[0] = 99
    with pytest.raises(OSError, match="the loader's own"):
        tune(OPTIONS, broken, out=tmp_path / "loader", steps=STEPS)


def test_rows_held_out_decide(tmp_path, contend, make_loader, monkeypatch):
    """With `evaluation` its loss is the trial's, whatever the training loss was; NaN is the worst."""
    scores = iter([3.0, 2.0, 1.0, 0.5, float("nan"), 9.0, 9.0])

    @contextlib.contextmanager
    def scored(values):
        with contend(values) as made:
            yield replace(made, evaluation=make_loader(seed=9))

    first = tune(replace(OPTIONS, trials=1), scored, out=tmp_path / "real", steps=STEPS).best
    again = tune(replace(OPTIONS, trials=1), contend, out=tmp_path / "training", steps=STEPS).best
    assert 0 < abs(first.loss - again.loss) < 1.0

    monkeypatch.setattr(trial_run, "held_out", lambda _contender, _result: next(scores))
    rows = tune(OPTIONS, scored, out=tmp_path, steps=STEPS).rows_by_number()
    assert [loss for _, loss in rows[0].curve] == [3.0, 2.0]
    assert rows[1].curve[0][1] == 1.0
    assert [row.end for row in rows.values()] == ["complete", "complete", "pruned"]
    assert "not a number" in rows[2].why
