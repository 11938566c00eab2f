"""Geometry of the differential's bars: runs in, percent out.

Invariant: the longest bar with its range fills the width; a bar's range lies on it, least to most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from datapipe.profiling.differential import Differential, Variant


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """One bar: `work` and `wait` in percent of the width, wait after work; `low` and `high` of the range's ends."""

    variant: Variant
    work: float
    wait: float
    low: float
    high: float


def rows(found: Differential | None) -> list[Row]:
    """A bar for each kind of run that came to something."""
    there = [] if found is None else [one for one in found.variants if not one.failed]
    whole = max((one.high for one in there), default=0.0) or 1.0
    return [
        Row(
            variant=one, wait=round(one.wait / whole * 100, 2), work=round((one.mean - one.wait) / whole * 100, 2),
            low=round(one.low / whole * 100, 2), high=round(one.high / whole * 100, 2),
        )
        for one in there
    ]  # fmt: skip
