"""A task on a worker: its record, or an error that says what is wrong with the task."""

from __future__ import annotations

from types import SimpleNamespace

import distributed
import pytest
from distributed import Reschedule, Status

from datapipe.errors import StorageError
from datapipe.preprocess import execute
from datapipe.preprocess.limits import Limits


@pytest.mark.parametrize(
    ("status", "met"),
    [
        (Status.running, StorageError),
        (Status.paused, StorageError),
        (Status.closing_gracefully, Reschedule),
        (Status.closing, Reschedule),
        (Status.closed, Reschedule),
    ],
)
def test_what_a_task_meets_on_a_worker_that_leaves_is_not_the_tasks(monkeypatch, status, met):
    """Its scratch folder is removed below it: the task is another worker's. On one that stays it is an error."""

    def failing(*_args, **_options):
        raise StorageError("a scratch file that is gone")

    worker = SimpleNamespace(status=status, state=SimpleNamespace(nthreads=1), address="", local_directory="")
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    monkeypatch.setattr(execute, "execute", failing)
    with pytest.raises(met):
        execute.execute_in_worker(None, Limits())
