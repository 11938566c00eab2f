"""How far a stage has come: counted as its tasks end, told to whoever watches.

What enters: the records of finished tasks. What leaves: a `Progress` after each. Invariant: watching changes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

from datapipe.preprocess.progress import Progress

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
    bytes: int = 0
    bytes_total: int = 0
    documents_now: int = 0
    bytes_now: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    dashboard: str | None = None

    def tell(self, task: Task, record: TaskRecord, *, reused: bool) -> None:
        """Count a finished task, and report."""
        self.done += 1
        self.reused += reused
        self.documents += record.rows_in
        self.bytes += task.bytes
        if not reused:
            self.documents_now += record.rows_in
            self.bytes_now += task.bytes
        for into, counts in ((self.dropped, record.dropped), (self.quarantined, record.quarantined)):
            for reason, n in counts.items():
                into[reason] = into.get(reason, 0) + n
        self.duplicates += record.duplicates
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
                    bytes_total=self.bytes_total,
                    documents_now=self.documents_now,
                    bytes_now=self.bytes_now,
                    dropped=dict(self.dropped),
                    duplicates=self.duplicates,
                    quarantined=dict(self.quarantined),
                    dashboard=self.dashboard,
                    counts=task.counts,
                )
            )
