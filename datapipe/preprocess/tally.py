"""What became of the rows of one map task: counted where they are read, marked and written.

What enters: batches, marked rows, costs. What leaves: the counts of a `TaskRecord`. Invariant: rows in, rows out and
rows gone are counted apart, none is found by subtraction, so that the row ledger can prove them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from datapipe.preprocess.encrypting import WITHHELD
from datapipe.preprocess.rejects import EXCERPT, RejectSample, excerpts, rank_of
from datapipe.preprocess.suppression import REASON
from datapipe.preprocess.tasks import Reject, StepCost

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from datapipe.corpus import Quarantined
    from datapipe.preprocess.stage import Removal
    from datapipe.steps import StepRun


@final
class Tally:
    """The counts of one task, filled as it goes."""

    def __init__(self, seed: int, *, withheld: bool = False) -> None:
        """`withheld`: samples show no text and no detail, as the dataset has columns that are encrypted."""
        self._seed = seed
        self._withheld = withheld
        self._costs: dict[str, list[float]] = {}
        self.sample = RejectSample(seed)
        self.rows_in = 0
        self.rows_out = 0
        self.text_bytes = 0
        self.duplicates = 0
        self.dropped: dict[str, int] = {}
        self.quarantined: dict[str, int] = {}
        self.counters: dict[str, int] = {}
        self.first_bad: Reject | None = None

    def unreadable(self, rows: Iterable[Quarantined]) -> None:
        """Rows that the reader could not make a row of: in, and quarantined."""
        for row in rows:
            self.rows_in += 1
            reject = Reject(
                rank=rank_of(self._seed, row.reason, row.row_id),
                row_id=row.row_id,
                reason=row.reason,
                step="read",
                excerpt=WITHHELD if self._withheld else row.excerpt[:200],
                detail="" if self._withheld else row.detail,
            )
            self._count(self.quarantined, row.reason, 1)
            self.first_bad = self.first_bad or reject
            self.sample.add([reject])

    def marked(self, marked: pa.Table, before: pa.Table, heads: Mapping[str, str] | None = None) -> None:
        """Rows that steps marked.

        Args:
            before: the table they were in, as it was read. heads: how their texts began as the step had them; of a page
                the source says nothing of why its text was dropped.
        """
        if not marked.num_rows:
            return
        groups: dict[tuple[str, str, str], tuple[list[str], list[str]]] = {}
        for row in marked.to_pylist():
            ids, details = groups.setdefault((row["kind"], row["reason"], row["step"]), ([], []))
            ids.append(row["row_id"])
            details.append((row["detail"] or "")[:EXCERPT])
        for (kind, reason, step), (ids, details) in groups.items():
            bad = kind == "quarantine"
            self._count(self.quarantined if bad else self.dropped, reason, len(ids))
            chosen = self._rejects(before, ids, reason, step, details, heads or {})
            if bad and self.first_bad is None:
                rank = rank_of(self._seed, reason, ids[0])
                self.first_bad = Reject(
                    rank=rank,
                    row_id=ids[0],
                    reason=reason,
                    step=step,
                    excerpt=self._excerpts(before, ids[:1], heads)[0],
                    detail="" if self._withheld else details[0],
                )
            self.sample.add(chosen)

    def erased(self, rows: int) -> None:
        """Rows that have been erased: counted, and shown in no sample."""
        self._count(self.dropped, REASON, rows)

    def removed(self, table: pa.Table, removal: Removal, details: list[str]) -> None:
        """Rows that a drop list named; `details`: for each, the place of the row it lost to."""
        if not table.num_rows:
            return
        row_ids = table.column("row_id").to_pylist()
        chosen = self._rejects(table, row_ids, removal.reason, removal.step, details, places=True)
        if removal.kind == "duplicate":
            self.duplicates += len(row_ids)
        else:
            self._count(
                self.quarantined if removal.kind == "quarantine" else self.dropped, removal.reason, len(row_ids)
            )
        if removal.kind == "quarantine":
            self.first_bad = self.first_bad or min(chosen, key=lambda reject: reject.rank)
        self.sample.add(chosen)

    def counted(self, counters: Mapping[str, int]) -> None:
        """What steps counted over the rows of a batch."""
        for name, n in counters.items():
            self._count(self.counters, name, n)

    def costs(self, runs: Iterable[StepRun]) -> None:
        """What steps cost."""
        for run in runs:
            total = self._costs.setdefault(run.name, [0, 0, 0, 0.0, 0])
            figures = (run.rows_in, run.rows_out, run.bytes_in, run.cpu_seconds, run.rows_measured)
            for i, value in enumerate(figures):
                total[i] += value

    def cost(self, name: str, rows_in: int, rows_out: int, bytes_in: int, seconds: float) -> None:
        """What a part of the task that is no step cost: reading, writing."""
        total = self._costs.setdefault(name, [0, 0, 0, 0.0, 0])
        for i, value in enumerate((rows_in, rows_out, bytes_in, seconds)):
            total[i] += value

    def written(self, table: pa.Table) -> None:
        """Documents that came through."""
        from datapipe.steps.columns import text_bytes_of

        self.rows_out += table.num_rows
        self.text_bytes += text_bytes_of(table)

    def fields(self) -> dict[str, Any]:
        """The counts, as `TaskRecord` takes them."""
        return {
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "dropped": dict(sorted(self.dropped.items())),
            "duplicates": self.duplicates,
            "quarantined": dict(sorted(self.quarantined.items())),
            "text_bytes": self.text_bytes,
            "counters": dict(sorted(self.counters.items())),
            "steps": tuple(
                StepCost(
                    name=name,
                    rows_in=int(a),
                    rows_out=int(b),
                    bytes_in=int(c),
                    cpu_seconds=seconds,
                    rows_measured=int(measured),
                )
                for name, (a, b, c, seconds, measured) in self._costs.items()
            ),
            "rejects": self.sample.rows(),
            "first_bad": self.first_bad,
        }

    @staticmethod
    def _count(into: dict[str, int], reason: str, n: int) -> None:
        into[reason] = into.get(reason, 0) + n

    def _excerpts(self, table: pa.Table, ids: list[str], heads: Mapping[str, str] | None) -> list[str]:
        return [WITHHELD] * len(ids) if self._withheld else excerpts(table, ids, heads)

    def _rejects(
        self,
        table: pa.Table,
        ids: list[str],
        reason: str,
        step: str,
        details: list[str] | None = None,
        heads: Mapping[str, str] | None = None,
        *,
        places: bool = False,
    ) -> list[Reject]:
        chosen = self.sample.choose(ids, reason)
        texts = self._excerpts(table, [ids[i] for _, i in chosen], heads)
        # Of a row that lost to another, the detail is the other's place.
        kept = details if details and (places or not self._withheld) else None
        return [
            Reject(
                rank=rank,
                row_id=ids[i],
                reason=reason,
                step=step,
                excerpt=text,
                detail=kept[i] if kept else "",
            )
            for (rank, i), text in zip(chosen, texts, strict=True)
        ]
