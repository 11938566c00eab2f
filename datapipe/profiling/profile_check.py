"""A profile's figures, checked when it is read: what JSON can hold, and no run can have been.

What enters: a `Summary` of the right types. What leaves: the first field that is wrong and why, or None.
Invariant: of what passes, every text, page and comparison can be made: numbers are finite and fit 64 bits, what is
counted or measured in bytes is not below zero, kinds are known, and the step's columns are the step's parts.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Final

from datapipe.profiling.advice import EFFORT, Fix
from datapipe.profiling.memory_use import MemorySeries, MemoryUse
from datapipe.profiling.queues import QueueStrip
from datapipe.profiling.stages import StageRow
from datapipe.profiling.summary import KINDS, RecorderCost, StepSeries, Summary

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST: Final = 1 << 62
_LAST_NS: Final = 253_402_300_799 * 10**9
"""The end of the year 9999, which is the last that a date can have."""
_STEP_KINDS: Final = (0, 1, 2, 3)
_PHASES: Final = ("evaluate", "checkpoint")
_NOT_BELOW_0: Final[dict[type, frozenset[str]]] = {
    Summary: frozenset({"started_unix_ns", "wall_ns", "steps_per_second", "samples", "epochs", "steady_steps"}),
    StepSeries: frozenset({"count", "number", "total_ns"}),
    StageRow: frozenset({"count", "threads", "bytes", "utilisation", "hits", "misses", "path"}),
    RecorderCost: frozenset({"spans", "lost", "ns_per_span", "share"}),
    MemoryUse: frozenset({"peak", "limit", "device_free", "full_in"}),
    MemorySeries: frozenset({"resident", "anonymous", "shared", "workers", "pinned", "device"}),
    QueueStrip: frozenset({"items", "mean", "most", "levels"}),
    Fix: frozenset({"effort", "recorded_ns", "step_ns", "low", "high"}),
}
"""What cannot be negative, by whose field it is. Parts of a step may be: what steps that overlap claim twice."""


def wrong(summary: Summary) -> str | None:
    """The first field that is wrong, with the reason; None where none is."""
    return next(_wrong(summary), None)


def _wrong(summary: Summary) -> Iterator[str]:
    yield from _numbers(summary, "", below=False)
    if summary.started_unix_ns > _LAST_NS:
        yield f"started_unix_ns is {summary.started_unix_ns}, which is no date"
    if summary.verdict.kind not in KINDS:
        yield f"verdict.kind is {_short(summary.verdict.kind)}, none of {', '.join(KINDS)}"
    series, step = summary.series, summary.step
    if series.every < 1:
        yield f"series.every is {series.every}, not 1 or more"
    if unknown := [kind for kind in series.kind if kind not in _STEP_KINDS]:
        yield f"series.kind has {unknown[0]}, none of {', '.join(map(str, _STEP_KINDS))}"
    if step is not None and min(step.mean, step.p50, step.p95) < 0:
        yield f"step is below 0: {step.mean:g} ns on average"
    for columns, name, parts in (
        (series.parts_ns, "parts_ns", summary.parts),
        (series.waits_ns, "waits_ns", summary.waits),
    ):
        unnamed = [each for each in columns if each not in {part.name for part in parts}]
        if step is not None and unnamed:
            yield f"series.{name} has {_short(unnamed[0])}, of which {name.removesuffix('_ns')} has no part"
    for place, phase in enumerate(summary.phases):
        if phase.name not in _PHASES:
            yield f"phases.{place}.name is {_short(phase.name)}, none of {', '.join(_PHASES)}"
    for place, (_, size) in enumerate(summary.memory):
        if size < 0:
            yield f"memory.{place} is {size} bytes, below 0"
    for place, fix in enumerate(() if summary.advice is None else summary.advice.fixes):
        if fix.effort >= len(EFFORT):
            yield f"advice.fixes.{place}.effort is {fix.effort}, not 0 to {len(EFFORT) - 1}"


def _numbers(value: Any, name: str, *, below: bool) -> Iterator[str]:
    """Numbers that are not finite, too large, or negative where they cannot be; of everything inside."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return
    if isinstance(value, int | float):
        if not math.isfinite(value):
            yield f"{name} is {value}, not a number that is finite"
        elif abs(value) > _MOST:
            yield f"{name} is {value:.3g}, beyond 64 bits"
        elif below and value < 0:
            yield f"{name} is {value:g}, below 0"
    elif dataclasses.is_dataclass(value):
        mine = _NOT_BELOW_0.get(type(value), frozenset())
        for field in dataclasses.fields(value):
            inside = f"{name}.{field.name}" if name else field.name
            yield from _numbers(getattr(value, field.name), inside, below=field.name in mine)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}.{_short(key)}", below=below)
    elif len(value) and isinstance(
        value[0], int | float
    ):  # a column, of one type: half a million numbers in the largest
        least = 0 if below else -_MOST
        place = next((i for i, number in enumerate(value) if not least <= number <= _MOST), None)
        if place is not None:
            yield from _numbers(value[place], f"{name}.{place}", below=below)
    else:
        for place, inner in enumerate(value):
            yield from _numbers(inner, f"{name}.{place}", below=below)


def _short(text: str) -> str:
    """A text from a file, quoted, and no longer than a name is."""
    return repr(text if len(text) <= 60 else text[:60] + "…")
