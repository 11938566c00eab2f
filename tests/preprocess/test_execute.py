"""A task on a worker: its record, or an error that says what is wrong with the task."""

from __future__ import annotations

from contextvars import copy_context
from types import SimpleNamespace

import distributed
import pytest
from distributed import Reschedule, Status

from datapipe.errors import StorageError
from datapipe.preprocess import execute
from datapipe.preprocess.limits import Limits
from datapipe.preprocess.work import SCRATCH_FOLDER, WorkFolder
from datapipe.storage import open_store


@pytest.mark.parametrize("raised", [StorageError, FileNotFoundError])
@pytest.mark.parametrize(
    ("status", "met"),
    [
        (Status.running, None),
        (Status.paused, None),
        (Status.closing_gracefully, Reschedule),
        (Status.closing, Reschedule),
        (Status.closed, Reschedule),
    ],
)
def test_what_a_task_meets_on_a_worker_that_leaves_is_not_the_tasks(monkeypatch, status, met, raised):
    """Its scratch folder is removed below it: the task is another worker's. On one that stays it is an error."""

    def failing(*_args, **_options):
        raise raised("a scratch file that is gone")

    worker = SimpleNamespace(status=status, state=SimpleNamespace(nthreads=1), address="", local_directory="")
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    monkeypatch.setattr(execute, "execute", failing)
    with pytest.raises(met or raised):
        execute.execute_in_worker(None, Limits())


def test_each_of_several_workers_in_one_process_has_its_own_scratch(monkeypatch, tmp_path):
    """The environment names one folder, of a worker that may leave before the others."""
    monkeypatch.setenv(SCRATCH_FOLDER, str(tmp_path))
    mine = tmp_path / "mine"
    mine.mkdir()
    remote = WorkFolder(open_store("memory://scratch-of-workers"))

    def run(folder):
        worker = SimpleNamespace(
            status=Status.running, state=SimpleNamespace(nthreads=1), address="", local_directory=str(folder)
        )
        monkeypatch.setattr(distributed, "get_worker", lambda: worker)
        monkeypatch.setattr(execute, "execute", lambda *_args, **_options: remote.scratch())
        return copy_context().run(execute.execute_in_worker, None, Limits())

    assert run(mine) == str(mine)
    assert remote.scratch() == str(tmp_path)
    assert run(tmp_path / "gone") is None
