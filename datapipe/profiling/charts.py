"""Geometry of the report's charts: numbers in, SVG attributes out.

Invariant: a bar's segments cover 100% and no more; the step chart has at most `BINS` columns whatever the run's length,
and what it cuts off at the top is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datapipe.profiling.phases import Phase
    from datapipe.profiling.summary import Part, StepSeries

BINS: Final = 240
WIDTH: Final = 1000.0
HEIGHT: Final = 200.0


@final
@dataclass(frozen=True, kw_only=True)
class Slice:
    """A segment of a 100% bar: `x` and `width` in percent; `size`, "wide" to "bare", is the room for a label."""

    name: str
    key: int
    x: float
    width: float
    share: float
    size: str


def bar(parts: Sequence[Part]) -> list[Slice]:
    """The segments of a 100% bar, in the order of the parts; negative parts have no width."""
    whole = sum(max(0.0, part.mean) for part in parts) or 1.0
    slices, x = [], 0.0
    for key, part in enumerate(parts, start=1):
        width = max(0.0, part.mean) / whole * 100
        size = "wide" if width >= 26 else "medium" if width >= 11 else "narrow" if width >= 3 else "bare"
        slices.append(Slice(name=part.name, key=key, x=round(x, 3), width=round(width, 3), share=part.share, size=size))
        x += width
    return slices


@final
@dataclass(frozen=True, kw_only=True)
class StepChart:
    """Steps over time, as stacked areas in a 1000 by 200 box.

    Attributes:
        areas: (part, SVG path).
        ticks: (y, label) of the time axis.
        x_ticks: (percent, label) of the step axis.
        marks: (x, "epoch", "evaluate" or "checkpoint").
        told: what the marks are, a line for each kind there is.
        lines: (y, label) for median and 95th percentile.
        clipped: columns higher than the box.
        columns: per column: first step, last step, total ms, ms per part; for the read-out.
    """

    areas: list[tuple[str, str]]
    ticks: list[tuple[float, str]]
    x_ticks: list[tuple[float, str]]
    marks: list[tuple[float, str]]
    told: list[tuple[str, str]]
    lines: list[tuple[float, str, str]]
    clipped: int
    columns: list[list[object]]
    names: list[str]
    per_column: int


def step_chart(series: StepSeries, step: Part, phases: Sequence[Phase] = ()) -> StepChart | None:
    """The chart of a run's steps, with its evaluations and checkpoints; None for fewer than two steps."""
    import numpy as np

    n = len(series.number)
    if n < 2:
        return None
    names = [name for name, ns in series.parts_ns.items() if any(ns)]
    per = -(-n // BINS)
    edges = np.arange(0, n, per)
    counts = np.diff(np.append(edges, n))
    table = np.array([series.parts_ns[name] for name in names], dtype=float) / 1e6
    means = np.add.reduceat(np.maximum(table, 0), edges, axis=1) / counts
    totals = means.sum(axis=0)
    top = float(max(np.percentile(totals, 98) * 1.2, step.p95 / 1e6 * 1.1, 1e-6))
    ticks = round_ticks(top)
    top = max(top, ticks[-1])
    stacked = np.minimum(np.vstack([np.zeros(len(edges)), np.cumsum(means, axis=0)]), top)
    y = HEIGHT - stacked / top * HEIGHT
    x = np.append(edges, n) / n * WIDTH
    areas = [(name, _area(x.tolist(), y[i + 1].tolist(), y[i].tolist())) for i, name in enumerate(names)]
    kinds = np.array(series.kind)
    columns: list[list[object]] = [
        [series.number[a], series.number[min(a + c, n) - 1], round(float(t), 3), *(round(float(v), 3) for v in m)]
        for a, c, t, m in zip(edges.tolist(), counts.tolist(), totals, means.T, strict=True)
    ]
    lines = [
        (round(HEIGHT - min(value / 1e6, top) / top * HEIGHT, 1), label, f"{value / 1e6:.3g} ms")
        for value, label in ((step.p50, "median"), (step.p95, "95th percentile"))
    ]
    whole_ticks = sorted({*range(0, n, max(1, n // 5))})
    return StepChart(
        areas=areas,
        ticks=[(round(HEIGHT - t / top * HEIGHT, 1), f"{t:g}") for t in ticks],
        x_ticks=[(round(i / n * 100, 2), f"{series.number[i]:,}") for i in whole_ticks if i / n <= 0.96],
        marks=[
            *((round(i / n * WIDTH, 1), "epoch") for i in np.flatnonzero(kinds == 2).tolist()),
            *((round(min(1.0, phase.step / max(1, series.count)) * WIDTH, 1), phase.name) for phase in phases),
        ],
        told=_told(kinds.tolist(), phases),
        lines=lines,
        clipped=int((totals > top).sum()),
        columns=columns,
        names=names,
        per_column=per * series.every,
    )


def _told(kinds: Sequence[int], phases: Sequence[Phase]) -> list[tuple[str, str]]:
    """(kind of mark, what it is) for a legend."""
    from datapipe.profiling.verdict import ms

    told = [("epoch", "a new epoch")] if 2 in kinds else []
    for name, said in (("evaluate", "evaluation"), ("checkpoint", "checkpoint")):
        mine = [phase.ns for phase in phases if phase.name == name]
        if mine:
            told.append((name, f"{said}, {ms(sum(mine) / len(mine))} on average"))
    return told


PERCENTILES: Final = (50, 90, 95, 99, 100)
_KINDS: Final = (
    (0, "steady steps"), (1, "the run’s first step"), (2, "first steps of later epochs"), (3, "steps with a checkpoint")
)  # fmt: skip


def percentiles(series: StepSeries) -> list[tuple[str, int, list[float]]]:
    """Step time by kind of step: (kind, steps, ns at each of `PERCENTILES`), for kinds that occurred."""
    import numpy as np

    total, kind = np.array(series.total_ns), np.array(series.kind)
    return [
        (label, int((kind == number).sum()), np.percentile(total[kind == number], PERCENTILES).tolist())
        for number, label in _KINDS
        if (kind == number).any()
    ]


def memory_chart(memory: Sequence[tuple[float, int]]) -> Mapping[str, object] | None:
    """Resident memory over time in a 1000 by 200 box; None for fewer than two samples."""
    if len(memory) < 2:
        return None
    span = memory[-1][0] - memory[0][0]
    mib = [size / 2**20 for _, size in memory]
    ticks = round_ticks(max(mib) * 1.1)
    top = max(ticks[-1], max(mib) * 1.1)
    thin = max(1, len(memory) // 500)
    points = [
        (round((t - memory[0][0]) / span * WIDTH if span else 0.0, 1), round(HEIGHT - size / top * HEIGHT, 1))
        for (t, _), size in list(zip(memory, mib, strict=True))[::thin]
    ]
    line = " ".join(f"{x:g},{y:g}" for x, y in points)
    return {
        "line": line,
        "area": f"M{points[0][0]:g},{HEIGHT:g} L" + line.replace(" ", " L") + f" L{points[-1][0]:g},{HEIGHT:g} Z",
        "ticks": [(round(HEIGHT - t / top * HEIGHT, 1), f"{t:,.0f}") for t in ticks],
        "x_ticks": [(p, f"{span * p / 100:.3g} s") for p in (0, 25, 50, 75)],
        "peak": max(mib),
        "first": mib[0],
        "last": mib[-1],
    }


def _area(x: Sequence[float], upper: Sequence[float], lower: Sequence[float]) -> str:
    """A band of columns: along the top left to right, back along the bottom."""
    top = [f"{x[i]:.1f},{u:.1f} {x[i + 1]:.1f},{u:.1f}" for i, u in enumerate(upper)]
    bottom = [f"{x[i + 1]:.1f},{v:.1f} {x[i]:.1f},{v:.1f}" for i, v in reversed(list(enumerate(lower)))]
    return "M" + " ".join(top + bottom) + "Z"


def round_ticks(top: float) -> list[float]:
    """Three to six round values from 0 up to `top`."""
    import math

    raw = top / 4
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    size = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)
    return [round(i * size, 10) for i in range(int(top / size + 1e-9) + 1)]
