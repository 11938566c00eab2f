"""How far a stage has come, as whoever watches a run is told.

What enters: counts of finished tasks. What leaves: frozen data, with rates and the time that is left. Invariant: rates
are of what this run did itself; what an earlier run had done makes them neither faster nor slower.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final


@final
@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run has come: one is given to `on_progress` after each task.

    Attributes:
        stage: its name. number, stages: which of how many (from 1).
        done, total: tasks of the stage; reused: how many of those done were done by an earlier run.
        documents, bytes: that the stage's finished tasks have read (bytes: of the text, or of the input).
        bytes_total: that all its tasks will have read; 0 where not known.
        documents_now, bytes_now: the part of documents and bytes that this run has read.
        dropped, quarantined: documents by reason, and duplicates: that the stage's finished tasks took out.
        elapsed: seconds since the stage began.
        dashboard: address of the scheduler's dashboard; None where there is none.
        counts: what `documents` counts, in the singular: some stages compare parts or pairs of documents.
    """

    stage: str
    number: int
    stages: int
    done: int
    total: int
    reused: int
    documents: int
    bytes: int
    elapsed: float
    bytes_total: int = 0
    documents_now: int = 0
    bytes_now: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    dashboard: str | None = None
    counts: str = "document"

    @property
    def docs_per_s(self) -> float:
        """Documents that this run read per second of the stage."""
        return self.documents_now / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def mb_per_s(self) -> float:
        """10^6 bytes that this run read per second of the stage."""
        return self.bytes_now / 1e6 / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds until the stage is done, at its speed so far: by bytes, else by tasks; None before the first task."""
        if self.done >= self.total:
            return 0.0
        if self.bytes_now > 0 and self.bytes_total > self.bytes:
            return self.elapsed * (self.bytes_total - self.bytes) / self.bytes_now
        fresh = self.done - self.reused
        return self.elapsed * (self.total - self.done) / fresh if fresh > 0 else None

    def taken(self) -> list[tuple[str, int]]:
        """What was taken out, by reason, most first."""
        counts = {**self.dropped, **({"duplicates": self.duplicates} if self.duplicates else {})}
        for reason, n in self.quarantined.items():
            counts[reason] = counts.get(reason, 0) + n
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
