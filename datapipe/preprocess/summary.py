"""What a run says of itself at its end.

What enters: counts. What leaves: frozen data and plain text. Invariant: `ledger_lines` adds up on the page: the first
line is the sum of all others.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datapipe.preprocess.poison import PoisonRow
    from datapipe.preprocess.survey import Inputs
    from datapipe.preprocess.tasks import Reject, StepCost
    from datapipe.storage import Store


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """The outcome of `preprocess`.

    Attributes:
        output: where the dataset is.
        documents_in … quarantined: the row ledger's totals.
        rows, tokens, shards: of the dataset; tokens None where it has none.
        bytes_in: stored bytes of the input; text_bytes: UTF-8 bytes of text that came through the first stage.
        seconds: wall time. docs_per_s, mb_per_s: documents and 10^6 input bytes per second of it.
        tasks_run, tasks_reused: what was done now, and what an earlier run had done.
        steps: rows, bytes and CPU seconds of each step, summed over tasks.
        counters: what steps counted over all rows they saw ("pii.email").
        stages: wall seconds of each stage.
        rejects: a seeded sample of the rows that did not come through.
        poison: rows that ended the process that ran them, or made a step raise: quarantined, and named here.
        snapshot: number of the snapshot that was published: 0, and one more for each delivery appended.
        files_known: of an append, files that were delivered before, and passed over.
    """

    output: str
    fingerprint: str
    recipe: str
    documents_in: int
    documents_out: int
    dropped: dict[str, int]
    duplicates: int
    quarantined: dict[str, int]
    rows: int
    tokens: int | None
    shards: int
    bytes_in: int
    text_bytes: int
    seconds: float
    tasks_run: int
    tasks_reused: int
    workers: int
    steps: tuple[StepCost, ...] = ()
    counters: dict[str, int] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    rejects: tuple[Reject, ...] = field(default=(), repr=False)
    poison: tuple[PoisonRow, ...] = ()
    snapshot: int = 0
    files_known: int = 0

    @property
    def docs_per_s(self) -> float:
        """Documents read per second of wall time."""
        return self.documents_in / self.seconds if self.seconds > 0 else 0.0

    @property
    def mb_per_s(self) -> float:
        """10^6 stored input bytes per second of wall time."""
        return self.bytes_in / 1e6 / self.seconds if self.seconds > 0 else 0.0

    def ledger_lines(self, most: int | None = None) -> list[str]:
        """The row ledger as a table: in, then out and every reason, which sum to it.

        Args:
            most: reasons that have a line of their own, the largest; the rest are one line. None: all.
        """
        gone = [
            *((f"dropped: {reason}", n) for reason, n in _by_count(self.dropped)),
            *((f"quarantined: {reason}", n) for reason, n in _by_count(self.quarantined)),
        ]
        shown = gone if most is None else sorted(gone, key=lambda part: -part[1])[:most]
        parts = [
            ("out", self.documents_out),
            *(part for part in gone if part in shown and part[0].startswith("dropped")),
            ("duplicates", self.duplicates),
            *(part for part in gone if part in shown and part[0].startswith("quarantined")),
        ]
        if rest := [n for name, n in gone if (name, n) not in shown]:
            parts.append((f"and {len(rest):,} more (report.html)", sum(rest)))
        whole = max(self.documents_in, 1)
        width = max(len(name) for name, _ in parts)
        return [f"  {'in':<{width + 2}} {self.documents_in:>12,}"] + [
            f"    {name:<{width}} {n:>12,}  {100 * n / whole:5.1f}%" for name, n in parts
        ]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**dataclasses.asdict(self), "docs_per_s": self.docs_per_s, "mb_per_s": self.mb_per_s}


def nothing_new(store: Store, found: Inputs, started: float) -> RunSummary:
    """The summary of an append that found no file it did not know: the dataset as it is."""
    assert found.before is not None
    manifest = found.before.manifest
    return RunSummary(
        output=store.url,
        fingerprint=manifest.fingerprint,
        recipe=found.plan.recipe.name,
        documents_in=0,
        documents_out=0,
        dropped={},
        duplicates=0,
        quarantined={},
        rows=manifest.rows,
        tokens=manifest.tokens,
        shards=len(manifest.shards),
        bytes_in=0,
        text_bytes=0,
        seconds=time.perf_counter() - started,
        tasks_run=0,
        tasks_reused=0,
        workers=0,
        snapshot=manifest.snapshot,
        files_known=found.known,
        warnings=(f"nothing new: all {found.known:,} files were delivered before",),
    )


def _by_count(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
