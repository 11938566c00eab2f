"""Bytes by source and memory over time, for a page.

What enters: `IoTruth`, `MemoryUse`. What leaves: parts for a 100% bar, rows of a table, lines in a 1000 by 200 box.
Invariant: the sources of a bar sum to what was asked of storage; a memory series that is always 0 is not drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.profiling.charts import HEIGHT, WIDTH, round_ticks
from datapipe.profiling.summary import Part

if TYPE_CHECKING:
    from datapipe.profiling.io_truth import IoTruth, Traffic
    from datapipe.profiling.memory_use import MemoryUse

SOURCES: Final = ("network", "disk", "page cache")
SERIES: Final = ("resident", "workers", "shared", "pinned", "device")
"""Those of memory that are drawn; anonymous memory is nearly all of the resident and would lie on it."""


def byte_parts(traffic: Traffic) -> tuple[Part, ...]:
    """The sources as parts of a bar, in bytes; empty where nothing was read."""
    values = (traffic.network, traffic.disk, traffic.page_cache)
    whole = sum(values) or 1
    return tuple(
        Part(name=name, mean=value, p50=value, p95=value, share=value / whole, total=value)
        for name, value in zip(SOURCES, values, strict=True)
        if value
    )


def byte_rows(io: IoTruth) -> list[tuple[str, Traffic]]:
    """The run, and where they were told apart its epochs: the first four and the last."""
    rows = [("the run", io.total)]
    epochs = [(f"epoch {i + 1}", epoch) for i, epoch in enumerate(io.epochs)]
    if len(epochs) > 1:
        rows += epochs if len(epochs) <= 5 else [*epochs[:4], epochs[-1]]
    return rows


@final
@dataclass(frozen=True, kw_only=True)
class MemoryChart:
    """Memory over time. `lines`: (series, polyline points, most MiB); ticks as (place, label); `limit`: its y."""

    lines: tuple[tuple[str, str, float], ...]
    ticks: list[tuple[float, str]]
    x_ticks: list[tuple[int, str]]
    limit: float | None


def memory_lines(memory: MemoryUse | None) -> MemoryChart | None:
    """The chart of a run's memory; None for fewer than two readings."""
    if memory is None or len(memory.series.seconds) < 2:
        return None
    held = memory.series
    seconds = held.seconds
    span = (seconds[-1] - seconds[0]) or 1.0
    values = {
        name: [size / 2**20 for size in series]
        for name in SERIES
        if any(series := getattr(held, name)) and len(series) == len(seconds)
    }
    if not values:
        return None
    most = max(max(series) for series in values.values())
    limit = None if memory.limit is None else memory.limit / 2**20
    # A limit far above the run would flatten it; one that is near is what the reader must see.
    near = limit if limit is not None and limit <= 2 * most else None
    ticks = round_ticks(max(most, near or 0.0) * 1.1)
    top = max(ticks[-1], most * 1.1, near or 0.0)
    lines = tuple(
        (
            name,
            " ".join(
                f"{(t - seconds[0]) / span * WIDTH:.1f},{HEIGHT - mib / top * HEIGHT:.1f}"
                for t, mib in zip(seconds, series, strict=True)
            ),
            max(series),
        )
        for name, series in values.items()
    )
    return MemoryChart(
        lines=lines,
        ticks=[(round(HEIGHT - t / top * HEIGHT, 1), f"{t:,.0f}") for t in ticks],
        x_ticks=[(p, f"{span * p / 100:.3g} s") for p in (0, 25, 50, 75)],
        limit=None if near is None else round(HEIGHT - near / top * HEIGHT, 1),
    )
