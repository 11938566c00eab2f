"""The answer of `retune`: counts of what is kept, lost and gained, as data and as text.

What enters: fates of rows, split by split. What leaves: frozen data. Invariant: of every variant, kept + passing
unmeasured + gone by reason = documents in; samples do not depend on how the rows are split.
"""

from __future__ import annotations

import dataclasses
import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.preprocess.rejects import rank_of
from datapipe.preprocess.split_fates import KEPT, PASSES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from datapipe.preprocess.split_fates import Fates, SplitFates

_SAMPLE: Final = 10


@final
@dataclass(frozen=True, kw_only=True)
class Changed:
    """A row whose fate changes: the reason before and after, "" where it is kept, "?" where it is not known."""

    row_id: str
    before: str
    after: str


@final
@dataclass(frozen=True, kw_only=True)
class Variant:
    """One combination of values.

    Attributes:
        changes: values by "step.option".
        kept: rows that are kept, for certain. passing: rows that pass now and that later steps have not measured.
        expected: rows kept in all, if the passing ones fare like those that passed before.
        lost: rows kept before and dropped now; gained: rows dropped before that are kept or passing now; moved: rows
            dropped before and now, for another reason.
        gone: rows dropped, repeated or quarantined, by reason.
        bytes_kept, bytes_lost, bytes_gained: of their raw content. tokens_lost: None where rows have no tokens.
        survivors_lost: of the lost, those of which other rows were dropped as repetitions: one of these may be kept
            in its place.
        lost_rows, gained_rows: a seeded sample.
    """

    changes: dict[str, Any]
    kept: int
    passing: int
    expected: int
    lost: int
    gained: int
    moved: int
    gone: dict[str, int]
    bytes_kept: int
    bytes_lost: int
    bytes_gained: int
    tokens_lost: int | None
    survivors_lost: int
    lost_rows: tuple[Changed, ...] = ()
    gained_rows: tuple[Changed, ...] = ()

    @property
    def name(self) -> str:
        """`option=value` of each change."""
        return ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in self.changes.items())


@final
@dataclass(frozen=True, kw_only=True)
class Retuned:
    """What `retune` found.

    Attributes:
        documents_in, kept, gone, bytes_kept: of the dataset as it is; gone by reason.
        later: steps after the changed ones that may remove rows, and that have not seen rows which pass now.
        seconds: that it took.
    """

    dataset: str
    documents_in: int
    kept: int
    bytes_kept: int
    gone: dict[str, int]
    later: tuple[str, ...]
    variants: tuple[Variant, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """For a person."""
        lines = [f"{self.documents_in:,} documents in, {self.kept:,} kept ({_share(self.kept, self.documents_in)})"]
        width = max(len(each.name) for each in self.variants)
        heads = ("kept", "passing", "expected", "lost", "gained", "moved")
        lines.append(f"  {'':<{width}}" + "".join(f"{head:>12}" for head in heads))
        for each in self.variants:
            figures = (each.kept, each.passing, each.expected, each.lost, each.gained, each.moved)
            lines.append(f"  {each.name:<{width}}" + "".join(f"{figure:>12,}" for figure in figures))
        lines.append("  lost, gained: kept now and not then, and the other way round; moved: gone for another reason")
        if any(each.passing for each in self.variants):
            lines.append(
                f"  passing: would pass, and was not measured by the steps after it ({', '.join(self.later)});"
            )
            lines.append("  expected: kept in all, if they fare there like the rows that passed before")
        if len(self.variants) == 1:
            lines += self._details(self.variants[0])
        return lines

    def _details(self, one: Variant) -> list[str]:
        reasons = sorted({*self.gone, *one.gone}, key=lambda reason: (-one.gone.get(reason, 0), reason))
        width = max((len(reason) for reason in reasons), default=0)
        lines = ["  by reason, now and then"] if reasons else []
        for reason in reasons:
            now, then = self.gone.get(reason, 0), one.gone.get(reason, 0)
            lines.append(f"    {reason:<{width}} {now:>12,} {then:>12,} {then - now:>+12,}")
        if one.survivors_lost:
            lines.append(f"  {one.survivors_lost:,} of the lost had copies, one of which may be kept in its place")
        if one.tokens_lost is not None and one.lost:
            lines.append(f"  the lost hold {one.tokens_lost:,} tokens")
        for title, rows in (("lost, for example", one.lost_rows), ("gained, for example", one.gained_rows)):
            if rows:
                lines.append(f"  {title}")
                lines += [f"    {row.row_id}  {row.before or 'kept'} → {_after(row)}" for row in rows]
        return lines


def _after(row: Changed) -> str:
    return {"": "kept", "?": "passes"}.get(row.after, row.after)


def _share(part: int, whole: int) -> str:
    return f"{part / max(whole, 1):.1%}"


@final
@dataclass
class VariantCount:
    """Counts of one variant, split by split."""

    changes: dict[str, Any]
    rows: int = 0
    kept: int = 0
    passing: int = 0
    lost: int = 0
    gained: int = 0
    moved: int = 0
    passed: int = 0
    passed_kept: int = 0
    bytes_kept: int = 0
    bytes_lost: int = 0
    bytes_gained: int = 0
    tokens_lost: int = 0
    tokens_known: bool = False
    survivors_lost: int = 0
    by_fate: dict[int, int] = field(default_factory=dict)
    samples: dict[str, list[tuple[int, str, int, int]]] = field(default_factory=dict)

    def add(
        self,
        rows: SplitFates,
        fate: npt.NDArray[np.int64],
        repeated: npt.NDArray[np.int64] | None,
        *,
        reached: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Count a split.

        Args:
            fate: under the variant. repeated: positions of rows that others repeat.
            reached: rows that passed the changed rules before.
        """
        import numpy as np

        before = rows.fate
        self.rows += len(fate) + sum(rows.unread.values())
        kept, passing = fate == KEPT, fate == PASSES
        lost, gained = (before == KEPT) & ~kept, (before != KEPT) & (kept | passing)
        self.kept += int(kept.sum())
        self.passing += int(passing.sum())
        self.lost += int(lost.sum())
        self.gained += int(gained.sum())
        self.moved += int(((before != KEPT) & (fate != before) & ~gained).sum())
        if reached is not None:
            self.passed += int(reached.sum())
            self.passed_kept += int((reached & (before == KEPT)).sum())
        for into, which in (("bytes_kept", kept), ("bytes_lost", lost), ("bytes_gained", gained)):
            setattr(self, into, getattr(self, into) + int(rows.bytes[which].sum()))
        self.tokens_known = self.tokens_known or bool((rows.tokens >= 0).any())
        self.tokens_lost += int(np.maximum(rows.tokens[lost], 0).sum())
        if repeated is not None:
            self.survivors_lost += int(lost[repeated].sum())
        for number, n in zip(*np.unique(fate[~kept & ~passing], return_counts=True), strict=True):
            self.by_fate[int(number)] = self.by_fate.get(int(number), 0) + int(n)
        for number, n in rows.unread.items():
            self.by_fate[number] = self.by_fate.get(number, 0) + n
        self._sample("lost", rows, lost, fate)
        self._sample("gained", rows, gained, fate)

    def _sample(
        self, name: str, rows: SplitFates, which: npt.NDArray[np.bool_], fate: npt.NDArray[np.int64]
    ) -> None:  # fmt: skip
        import numpy as np
        import pyarrow as pa

        places = np.flatnonzero(which)
        if not len(places):
            return
        # A cheap draw first: hashing the id of each row that changes would be most of the work.
        mixed = (places.astype(np.uint64) + np.uint64(rows.split << 32)) * np.uint64(0x9E3779B97F4A7C15)
        places = places[np.argsort(mixed, kind="stable")[: 4 * _SAMPLE]]
        first = rows.stages[0]
        at = np.flatnonzero(np.isin(first.position, places))
        found = self.samples.setdefault(name, [])
        for row_id, place in zip(
            first.table.column("row_id").take(pa.array(at)).to_pylist(), first.position[at].tolist(), strict=True
        ):
            found.append((rank_of(0, name, row_id), row_id, int(rows.fate[place]), int(fate[place])))
        self.samples[name] = heapq.nsmallest(_SAMPLE, found)

    def gone(self, fates: Fates) -> dict[str, int]:
        """Rows by reason."""
        found: dict[str, int] = {}
        for number, n in self.by_fate.items():
            reason = fates.known[number].reason
            found[reason] = found.get(reason, 0) + n
        return dict(sorted(found.items()))

    def finished(self, fates: Fates) -> Variant:
        """The counts, frozen."""

        def word(number: int) -> str:
            return "" if number == KEPT else "?" if number == PASSES else fates.known[number].reason

        def sample(name: str) -> tuple[Changed, ...]:
            found = self.samples.get(name, [])
            return tuple(Changed(row_id=i, before=word(a), after=word(b)) for _, i, a, b in found)

        share = self.passed_kept / self.passed if self.passed else 1.0
        return Variant(
            changes=self.changes,
            kept=self.kept,
            passing=self.passing,
            expected=self.kept + round(self.passing * share),
            lost=self.lost,
            gained=self.gained,
            moved=self.moved,
            gone=self.gone(fates),
            bytes_kept=self.bytes_kept,
            bytes_lost=self.bytes_lost,
            bytes_gained=self.bytes_gained,
            tokens_lost=self.tokens_lost if self.tokens_known else None,
            survivors_lost=self.survivors_lost,
            lost_rows=sample("lost"),
            gained_rows=sample("gained"),
        )
