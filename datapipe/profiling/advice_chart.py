"""Fixes for a page: each predicted step with its 80% interval, against the step as recorded.

What enters: `Advice`. What leaves: rows with places in percent of one scale, so that fixes compare by eye.
Invariant: every place lies between 0 and 100; the scale begins at 0 and holds the recorded step and every interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from datapipe.profiling.advice import Advice, Fix


@final
@dataclass(frozen=True, kw_only=True)
class FixRow:
    """A fix, and where its prediction, interval and the recorded step lie, in percent of the scale."""

    fix: Fix
    step: float
    low: float
    width: float
    recorded: float


def fix_rows(advice: Advice | None) -> list[FixRow]:
    """The rows of a run's fixes, best first."""
    if advice is None or not advice.fixes:
        return []
    top = max(max(fix.recorded_ns, fix.high, fix.step_ns) for fix in advice.fixes) * 1.02 or 1.0
    return [
        FixRow(
            fix=fix,
            step=round(fix.step_ns / top * 100, 2),
            low=round(max(0.0, fix.low) / top * 100, 2),
            width=round(max(0.0, fix.high - max(0.0, fix.low)) / top * 100, 2),
            recorded=round(fix.recorded_ns / top * 100, 2),
        )
        for fix in advice.fixes
    ]
