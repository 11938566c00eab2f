"""The time that a task takes, and the record of a task that is one step from its beginning to its end.

What enters: a task as it begins; as it ends, what it has read and made. What leaves: its `TaskRecord`. Invariant: the
record's wall time and its step's CPU time are of the same stretch of the run.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, final

from datapipe.preprocess.tasks import StepCost, TaskRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.preprocess.tasks import OutputFile, Task


class Findings(TypedDict, total=False):
    """What some tasks have found besides files: see the fields of `TaskRecord`."""

    text_bytes: int
    lists: dict[str, tuple[int, int, str]]
    size: int
    found: dict[str, Any]


@final
class TaskClock:
    """Started by a task as it begins."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def record(
        self,
        step: str,
        *,
        rows_in: int,
        rows_out: int,
        bytes_in: int,
        files: Mapping[str, OutputFile],
        **findings: Unpack[Findings],
    ) -> TaskRecord:
        """Of the task, which ends now: it was the one step of this name, and stored these files, by kind."""
        cost = StepCost(
            name=step,
            rows_in=rows_in,
            rows_out=rows_out,
            bytes_in=bytes_in,
            cpu_seconds=time.process_time() - self._cpu,
        )
        return TaskRecord(
            key=self._task.key,
            stage=self._task.name,
            split=self._task.split,
            seconds=time.perf_counter() - self._wall,
            files=dict(files),
            rows_in=rows_in,
            rows_out=rows_out,
            steps=(cost,),
            **findings,
        )
