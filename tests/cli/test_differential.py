"""`datapipe profile --differential`: which runs are made, and where they run."""

import subprocess
from pathlib import Path

import pytest

from datapipe.cli import differential
from datapipe.cli.another_run import Command
from datapipe.profiling import load_profile, profile
from datapipe.profiling.profile_file import save_profile

SCRIPT = """
import torch
from torch.utils.data import DataLoader
model = torch.nn.Linear(8, 1)
open("made.txt", "w").close()
for epoch in range(2):
    for batch in DataLoader(torch.randn(60, 8), batch_size=4):
        model(batch).mean().backward()
"""


def a_profile(folder):
    with profile(None) as prof:
        for _ in prof.steps(range(40)):
            pass
    save_profile(prof.summary(), folder)


class Processes:
    """Stands in for processes: writes down what would run, and a profile where it would go."""

    def __init__(self, fail=()):
        self.lines, self.places, self.fail = [], [], fail

    def __call__(self, line, *, cwd, **_):
        mode = line[line.index("--stand-in") + 1]
        self.lines.append(line)
        self.places.append(None if cwd is None else sorted(entry.name for entry in Path(cwd).iterdir()))
        if mode not in self.fail:
            a_profile(Path(line[line.index("-o") + 1]))
        self.code = 3 if mode in self.fail else 0
        return self

    def wait(self, _limit=None):
        return self.code


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT)
    a_profile(tmp_path / "run")
    return Command(script="train.py", arguments=("--lr", "1"), module=False, folder=tmp_path / "run")


def test_each_kind_runs_in_each_round_there_and_back(command, monkeypatch):
    """What drifts meets all kinds alike; the script's own arguments follow it."""
    made = Processes()
    monkeypatch.setattr(subprocess, "Popen", made)
    differential.run_differential(command, steps=30, scratch=False, quiet=True)
    modes = [line[line.index("--stand-in") + 1] for line in made.lines]
    assert modes == ["as-is", "cached", "synthetic", "loader", "loader", "synthetic", "cached", "as-is"]
    assert all(line[-2:] == ["--lr", "1"] for line in made.lines)
    found = load_profile(command.folder).differential
    assert (found.rounds, found.steps, len(found.variants)) == (2, 30, 4)
    assert "With and without its loader" in (command.folder / "report.html").read_text()


def test_a_kind_that_fails_is_not_run_again(command, monkeypatch):
    """Its reason is in the result; the others are compared."""
    made = Processes(fail=("loader",))
    monkeypatch.setattr(subprocess, "Popen", made)
    differential.run_differential(command, steps=30, scratch=False, quiet=True)
    assert len(made.lines) == 7
    found = load_profile(command.folder).differential
    assert any("loader alone: not measured, it ended with code 3" in line for line in found.lines)
    assert found.floor is not None


def test_scratch_runs_in_a_folder_of_links(command, monkeypatch):
    """What lies here is there too; what a run makes there does not come back."""
    made = Processes()
    monkeypatch.setattr(subprocess, "Popen", made)
    differential.run_differential(command, steps=30, scratch=True, quiet=True)
    assert all(set(place) == {"run", "train.py"} for place in made.places)


def test_short_steps_get_more_of_them(command):
    """As many as last three seconds, within bounds."""
    first = load_profile(command.folder)
    assert differential.STEPS <= differential._enough(first) <= 2_000


@pytest.mark.slow
def test_an_unmodified_script_is_told_its_headspace(datapipe, tmp_path):
    """All nine runs, as typed."""
    (tmp_path / "train.py").write_text(SCRIPT)
    options = ("--differential", "--scratch", "--steps", "20", "-o", "run")
    ran = datapipe("profile", *options, "train.py", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert "as it is" in ran.out
    found = load_profile(tmp_path / "run").differential
    assert not [one for one in found.variants if one.failed]
    assert found.floor > 0


def test_a_stand_in_is_an_option_of_its_own(datapipe, tmp_path):
    """A brief profile of a run on one batch, ended after its steps."""
    (tmp_path / "train.py").write_text(SCRIPT)
    options = ("--stand-in", "synthetic", "--steps", "5", "--brief", "-o", "run")
    ran = datapipe("profile", "-q", *options, "train.py", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert load_profile(tmp_path / "run").series.count == 5
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"profile.json", "report.html"}
