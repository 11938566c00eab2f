"""A worker that would spoil a run is told apart before it gets a task, and the error says which it is and why."""

import dataclasses
import os
from pathlib import Path

import pytest

from datapipe.errors import ConfigError
from datapipe.preprocess import admission, plan_run
from datapipe.preprocess.admission import Admission, admission_for, admit, differences, software
from datapipe.preprocess.tasks import Place
from datapipe.preprocess.work import SCRATCH_FOLDER, WorkFolder


@pytest.fixture
def wanted(tmp_path, monkeypatch):
    """Of a run over four files; what it sets in a worker's environment is put back."""
    for name in ("POLARS_MAX_THREADS", SCRATCH_FOLDER):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    (tmp_path / "in").mkdir()
    for name in "abcd":
        (tmp_path / "in" / f"{name}.txt").write_text(f"a text, {name}")
    plan = plan_run(tmp_path / "in", tmp_path / "out", {"steps": ["decode"], "output": {"split_bytes": 10}})
    made = admission_for(plan, Place(url=str(tmp_path / "out")), None)
    made.put_sign()
    return made


def test_a_worker_that_fits(wanted, tmp_path):
    """It is let in, uses one thread a library, keeps scratch files where it is told, and is not asked again."""
    assert [file.path for file in wanted.inputs] == ["a.txt", "b.txt", "d.txt"]
    admit(wanted, "tcp://w:1", str(tmp_path))
    assert os.environ[SCRATCH_FOLDER] == str(tmp_path)
    wanted.remove_sign()
    admit(wanted, "tcp://w:1")


def test_scratch_of_a_worker_elsewhere(wanted, tmp_path, monkeypatch):
    """Remote outputs are written by way of the worker's own folder, which no run sweeps: it may be another's."""
    from datapipe.storage import open_store

    monkeypatch.setenv(SCRATCH_FOLDER, str(tmp_path))
    work = WorkFolder(open_store("memory://here"))
    with work.scratch_file("rows") as path:
        assert Path(path).parent == tmp_path
        work.sweep_scratch()
        assert Path(path).exists()
    assert not Path(path).exists()
    monkeypatch.setenv(SCRATCH_FOLDER, str(tmp_path / "gone"))
    assert work.scratch() is None


def test_other_versions(wanted):
    """Each difference is named: what the worker has, and what it should have."""
    other = {**software(), "pyarrow": "1.0", "surprise": "2"}
    del other["python"]
    with pytest.raises(ConfigError, match="worker tcp://w:1 on .* has .*pyarrow") as caught:
        admit(dataclasses.replace(wanted, software=other), "tcp://w:1")
    assert "(not 1.0)" in caught.value.got
    assert "surprise missing (not 2)" in caught.value.got
    assert "(not installed)" in caught.value.got
    assert "what is done is kept" in caught.value.fix
    assert differences(other, other) == ""


def test_another_output(wanted, tmp_path):
    """A folder of the same name on another machine, an earlier run's work in it, is not the output."""
    (tmp_path / "elsewhere" / "_work").mkdir(parents=True)
    (tmp_path / "elsewhere" / "_work" / "here-000000000000").touch()
    with pytest.raises(ConfigError, match="does not see the output .*elsewhere"):
        admit(dataclasses.replace(wanted, output=Place(url=str(tmp_path / "elsewhere"))), "tcp://w:1")


@pytest.mark.parametrize("spoil", ["remove", "change"])
def test_another_input(wanted, tmp_path, spoil):
    """Files that are not there, or are others, would count as unreadable: the worker is refused instead."""
    file = tmp_path / "in" / "d.txt"
    if spoil == "change":
        file.write_text("another text, longer")
    else:
        file.unlink()
    with pytest.raises(ConfigError, match=r"cannot read the input in/d\.txt"):
        admit(wanted, "tcp://w:1")


def test_no_secret_is_shown(wanted):
    """Dask logs the arguments of what fails: an admission's text has no credential."""
    place = Place(url="s3://bucket/x?sig=SECRET", options={"secret": "SECRET"})
    shown = repr(dataclasses.replace(wanted, output=place, input_options={"secret": "SECRET"}))
    assert "SECRET" not in shown


def test_workers_that_cannot_be_asked():
    """A worker without the package: the first is named, with how many there are."""

    class Client:
        def nthreads(self):
            return {f"tcp://w:{n}": 1 for n in range(admission.ASKED_AT_ONCE + 8)}

        def run(self, function, *arguments, workers, on_error):
            assert len(workers) == admission.ASKED_AT_ONCE
            assert on_error == "return"
            return {worker: ModuleNotFoundError("No module named 'datapipe'") for worker in workers[:2]} | {
                workers[2]: None
            }

    asked = Admission(run="0", software={}, output=Place(url="/x"))
    with pytest.raises(ConfigError, match="2 of 3 workers cannot be asked; tcp://w:0: .*No module named 'datapipe'"):
        admission.admit_all(Client(), asked)
