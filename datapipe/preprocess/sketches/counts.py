"""How often each value of a column occurs: exact, up to a bound on the number of different ones.

What enters: columns of texts or numbers. What leaves: counts by value. Invariant: counts are exact, or there are none:
a column with more different values than the bound says so, whatever the order of rows and parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa


@final
class Counts:
    """Counts by value; `over` once there are more than `most` different ones (they are then forgotten)."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.by_value: dict[Any, int] = {}
        self.nulls = 0
        self.over = False

    def add(self, values: pa.ChunkedArray | pa.Array) -> None:
        """Take in a column; nulls are counted apart."""
        import pyarrow.compute as pc

        self.nulls += values.null_count
        found = pc.value_counts(values.drop_null())
        self.add_pairs(zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True))

    def add_pairs(self, pairs: Iterable[tuple[Any, int]]) -> None:
        """Take in counts."""
        if self.over:
            return
        mine = self.by_value
        for value, count in pairs:
            mine[value] = mine.get(value, 0) + count
        if len(mine) > self.most:
            self.over = True
            self.by_value = {}

    def merge(self, other: Counts) -> None:
        """Take in what another has counted."""
        self.nulls += other.nulls
        if other.over:
            self.over, self.by_value = True, {}
        self.add_pairs(other.by_value.items())

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; the values in order."""
        return {"values": sorted(map(list, self.by_value.items())), "nulls": self.nulls, "over": self.over}


def counts_from(plain: dict[str, Any], most: int) -> Counts:
    """The inverse of `as_dict`."""
    counts = Counts(most)
    counts.add_pairs((value, count) for value, count in plain["values"])
    counts.nulls = plain["nulls"]
    if plain["over"]:
        counts.over, counts.by_value = True, {}
    return counts
