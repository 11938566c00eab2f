"""How far a stage has come: counted as its tasks end, told to whoever watches.

What enters: the records of finished tasks. What leaves: a `Progress` after each. Invariant: watching changes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

from datapipe.preprocess.summary import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.preprocess.stage import Stage
    from datapipe.preprocess.tasks import Task, TaskRecord


@final
@dataclass
class Meter:
    """Progress of one stage."""

    stage: Stage
    stages: int
    total: int
    began: float
    report: Callable[[Progress], None] | None
    done: int = 0
    reused: int = 0
    documents: int = 0
    bytes: int = field(default=0)

    def tell(self, task: Task, record: TaskRecord, *, reused: bool) -> None:
        """Count a finished task, and report."""
        self.done += 1
        self.reused += reused
        self.documents += record.rows_in
        self.bytes += task.bytes
        if self.report is not None:
            self.report(
                Progress(
                    stage=self.stage.name,
                    number=self.stage.number + 1,
                    stages=self.stages,
                    done=self.done,
                    total=self.total,
                    reused=self.reused,
                    documents=self.documents,
                    bytes=self.bytes,
                    elapsed=time.perf_counter() - self.began,
                )
            )
