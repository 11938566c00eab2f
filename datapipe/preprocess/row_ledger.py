"""The row ledger: every document that came in went out, or was dropped, repeated or quarantined for a counted reason.

What enters: the records of the stages that rows pass through. What leaves: one `LedgerEntry` per split.
Invariant (contract 7), checked after every stage, per split: in = out + dropped + duplicates + quarantined, and what a
stage read is what the one before it wrote. Where rows are moved between splits: in + moved in = out + moved out + …,
and what moved out of all splits moved into some. A mismatch raises, and nothing is published.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from datapipe.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from datapipe.dataset import LedgerEntry
    from datapipe.preprocess.tasks import TaskRecord


@dataclass
class _Line:
    documents_in: int = 0
    out: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    moved_in: int = 0
    moved_out: int = 0
    shard: str | None = None


@final
@dataclass(frozen=True, kw_only=True)
class StageLedger:
    """One stage's rows, over all splits; dropped and quarantined are by reason."""

    stage: str
    rows_in: int
    rows_out: int
    dropped: dict[str, int]
    duplicates: int
    quarantined: dict[str, int]

    @classmethod
    def of(cls, stage: str, records: Iterable[TaskRecord]) -> StageLedger:
        """The sums of a stage's records."""
        records = tuple(records)
        sums: tuple[dict[str, int], dict[str, int]] = ({}, {})
        for record in records:
            for into, counts in zip(sums, (record.dropped, record.quarantined), strict=True):
                for reason, n in counts.items():
                    into[reason] = into.get(reason, 0) + n
        return cls(
            stage=stage,
            rows_in=sum(record.rows_in for record in records),
            rows_out=sum(record.rows_out for record in records),
            dropped=dict(sorted(sums[0].items())),
            duplicates=sum(record.duplicates for record in records),
            quarantined=dict(sorted(sums[1].items())),
        )


@final
class RowLedger:
    """The ledger of a run, split by split; `stages` has the sums of each stage."""

    def __init__(self, splits: int, first: int = 0) -> None:
        """`first`: the number of the first split; those before it are in the ledgers of earlier snapshots."""
        self._first = first
        self._lines = [_Line() for _ in range(splits)]
        self._moved = 0
        self._stages = 0
        self.stages: list[StageLedger] = []

    def add(self, stage: str, records: Mapping[int, TaskRecord]) -> None:
        """Take in a stage's records by split; a split without one had no rows left.

        Raises:
            LedgerError: a split's rows do not add up; the message has its numbers.
        """
        for split, line in enumerate(self._lines, self._first):
            record = records.get(split)
            rows_in = record.rows_in if record is not None else 0
            if self._stages == 0:
                line.documents_in = rows_in
            elif rows_in != line.out:
                raise LedgerError(
                    f"stage {stage}, split {split}: read {rows_in} rows",
                    expected=f"{line.out}, which the stage before it wrote",
                    fix="run again with --fresh; if it comes back, report it",
                )
            line.out = 0
            if record is None:
                continue
            gone = sum(record.dropped.values()) + record.duplicates + sum(record.quarantined.values())
            if record.rows_in != record.rows_out + gone:
                raise LedgerError(
                    f"stage {stage}, split {split}: {record.rows_in} rows in, {record.rows_out} out, {gone} gone",
                    expected="in = out + dropped + duplicates + quarantined",
                    fix="run again with --fresh; if it comes back, report it",
                )
            line.out = record.rows_out
            line.duplicates += record.duplicates
            for into, counts in ((line.dropped, record.dropped), (line.quarantined, record.quarantined)):
                for reason, n in counts.items():
                    into[reason] = into.get(reason, 0) + n
            if record.shard is not None:
                line.shard = record.shard["path"]
        self._stages += 1
        self.stages.append(StageLedger.of(stage, records.values()))

    def move(self, stage: str, left: Mapping[int, TaskRecord], came: Mapping[int, TaskRecord]) -> None:
        """Take in a stage that moved the rows: what it took out of each split, and what it put into each.

        Raises:
            LedgerError: it read other rows than there were, or did not write all that it read.
        """
        fix = "run again with --fresh; if it comes back, report it"
        for split, line in enumerate(self._lines, self._first):
            read = left[split].rows_in if split in left else 0
            if read != line.out:
                raise LedgerError(
                    f"stage {stage}, split {split}: moved {read} rows",
                    expected=f"{line.out}, which the stage before it wrote",
                    fix=fix,
                )
            line.moved_out += read
            line.out = 0
        taken = sum(record.rows_out for record in left.values())
        put = sum(record.rows_out for record in came.values())
        if not taken == put == sum(line.moved_out for line in self._lines) - self._moved:
            raise LedgerError(
                f"stage {stage}: {taken} rows taken out of splits, {put} put into others",
                expected="the same number",
                fix=fix,
            )
        self._moved += put
        last = max(came, default=self._first)
        self._lines += [_Line() for _ in range(last + 1 - self._first - len(self._lines))]
        for split, record in came.items():
            line = self._lines[split - self._first]
            line.moved_in += record.rows_out
            line.out = record.rows_out

    def entries(self) -> tuple[LedgerEntry, ...]:
        """What the manifest keeps."""
        from datapipe.dataset import LedgerEntry

        return tuple(
            LedgerEntry(
                split=split,
                documents_in=line.documents_in,
                out=line.out,
                dropped=dict(sorted(line.dropped.items())),
                duplicates=line.duplicates,
                quarantined=dict(sorted(line.quarantined.items())),
                moved_in=line.moved_in,
                moved_out=line.moved_out,
                shard=line.shard,
            )
            for split, line in enumerate(self._lines, self._first)
        )

    def total(self) -> dict[str, Any]:
        """The sums over all splits: documents_in, documents_out, dropped, duplicates, quarantined."""
        dropped: dict[str, int] = {}
        quarantined: dict[str, int] = {}
        for line in self._lines:
            for into, counts in ((dropped, line.dropped), (quarantined, line.quarantined)):
                for reason, n in counts.items():
                    into[reason] = into.get(reason, 0) + n
        return {
            "documents_in": sum(line.documents_in for line in self._lines),
            "documents_out": sum(line.out for line in self._lines),
            "dropped": dict(sorted(dropped.items())),
            "duplicates": sum(line.duplicates for line in self._lines),
            "quarantined": dict(sorted(quarantined.items())),
        }
