"""A small seeded sample of the rows that did not come through, by reason, for people to look at.

What enters: marked rows. What leaves: at most `PER_REASON` of each reason. Invariant: which rows are chosen depends on
the seed, the reason and the row ids, never on batches, splits or workers: the sample of a whole is taken from samples
of its parts.
"""

from __future__ import annotations

import heapq
import json
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from datapipe.preprocess.tasks import Reject

PER_REASON: Final = 20
EXCERPT: Final = 200
_FIELDS: Final = 12
"""Characters."""


def rank_of(seed: int, reason: str, row_id: str) -> int:
    """The place of a row in the sample's order: 63 bits, uniform."""
    from xxhash import xxh3_64_intdigest

    return int(xxh3_64_intdigest(f"{reason}\0{row_id}".encode(), seed)) >> 1


@final
class RejectSample:
    """Collects the sample; `rows()` gives it sorted by reason, then rank."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._by_reason: dict[str, list[Reject]] = {}

    def add(self, rejects: Iterable[Reject]) -> None:
        """Take in rows, or another sample."""
        for reject in rejects:
            self._by_reason.setdefault(reject.reason, []).append(reject)
        for reason, rows in self._by_reason.items():
            if len(rows) > PER_REASON:
                self._by_reason[reason] = heapq.nsmallest(PER_REASON, rows, key=_order)

    def choose(self, row_ids: list[str], reason: str) -> list[tuple[int, int]]:
        """(rank, index) of the rows that may be in the sample: those whose excerpt is worth cutting out."""
        ranked = ((rank_of(self._seed, reason, row_id), i) for i, row_id in enumerate(row_ids))
        return heapq.nsmallest(PER_REASON, ranked)

    def rows(self) -> tuple[Reject, ...]:
        """The sample."""
        return tuple(
            reject for reason in sorted(self._by_reason) for reject in sorted(self._by_reason[reason], key=_order)
        )

    def files(self) -> dict[str, bytes]:
        """`<reason>.jsonl` → its bytes."""
        lines: dict[str, list[str]] = {}
        for reject in self.rows():
            plain = {
                "row_id": reject.row_id,
                "reason": reject.reason,
                "step": reject.step,
                "excerpt": reject.excerpt,
                **({"detail": reject.detail} if reject.detail else {}),
            }
            lines.setdefault(reject.reason, []).append(json.dumps(plain, ensure_ascii=False) + "\n")
        return {f"{reason}.jsonl": "".join(found).encode() for reason, found in lines.items()}


def _order(reject: Reject) -> tuple[int, str, str]:
    return (reject.rank, reject.row_id, reject.detail)


def excerpts(table: pa.Table, row_ids: list[str], heads: Mapping[str, str] | None = None) -> list[str]:
    """The first characters of each row's text (or undecoded bytes); of a record, its values as JSON.

    Args:
        heads: by row id, what is taken instead.
    """
    found = _excerpts(table, row_ids)
    if not heads:
        return found
    return [_cut(heads[row_id]) if row_id in heads else each for row_id, each in zip(row_ids, found, strict=True)]


def _excerpts(table: pa.Table, row_ids: list[str]) -> list[str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = next((name for name in ("text", "raw") if name in table.column_names), None)
    if not row_ids:
        return []
    places = pc.index_in(pa.array(row_ids, pa.string()), value_set=table.column("row_id").cast(pa.string()))
    if column is None:
        record = [name for name in table.column_names if name != "row_id" and not name.startswith("__")][:_FIELDS]
        return ["" if place is None else _record(table, record, place) for place in places.to_pylist()]
    values = table.column(column)
    return ["" if place is None else _cut(values[place].as_py()) for place in places.to_pylist()]


def _record(table: pa.Table, names: list[str], row: int) -> str:
    plain = {name: table.column(name)[row].as_py() for name in names}
    if not plain:
        return ""
    return json.dumps(plain, ensure_ascii=False, default=str)[:EXCERPT].replace("\0", "\ufffd")


def _cut(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value[: 4 * EXCERPT].decode("utf-8", "replace")
    return str(value)[:EXCERPT].replace("\0", "\ufffd")
