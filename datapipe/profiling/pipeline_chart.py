"""The loader as a pipeline, for a page: who works, on how many threads, how busy, and what lies ready between.

What enters: a `Summary`. What leaves: boxes in the order of the data, each with the queue before it; queue strips as
SVG paths in a 1000 by 100 box.
Invariant: a box's shares sum to 1: working, starved (waiting for input), blocked (waiting for room), and the rest of
the time its threads were there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.profiling.precedence import NOT_LOADER
from datapipe.profiling.queues import LOOP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datapipe.profiling.queues import QueueStrip
    from datapipe.profiling.summary import Summary

FLOW: Final = (
    "list", "footer", "fetch", "decompress", "decode", "filter", "prepare", "gather", "worker start", "dataset",
    "transform", "collate", "pin", "h2d",
)  # fmt: skip
"""The way of the data; stages by other names stand in the order they were recorded in, before "collate"."""
STATES: Final = ("working", "starved", "blocked", "idle")
HEIGHT: Final = 100.0
WIDTH: Final = 1000.0


@final
@dataclass(frozen=True, kw_only=True)
class Box:
    """One stage, or the loop at the end.

    Attributes:
        name: the stage; "step" for the loop.
        threads: threads that ran it.
        shares: (state of `STATES`, share of its threads' time, x): where the segment of a 100% bar begins, in percent.
        queue: what lay ready before it.
        bottleneck: the verdict names it.
    """

    name: str
    threads: int
    shares: tuple[tuple[str, float, float], ...]
    queue: QueueStrip | None
    bottleneck: bool

    def share(self, state: str) -> float:
        """The share of its threads' time in a state, 0 to 1."""
        return next(share for name, share, _ in self.shares if name == state)


def boxes(summary: Summary) -> list[Box]:
    """The pipeline of a run; empty where the loader recorded nothing."""
    rows = [row for row in summary.stages if row.name not in NOT_LOADER and row.count]
    if not rows or summary.step is None:
        return []
    # A stage may take both blocks and batches: the fuller queue is the one that it works off.
    before = {strip.taker: strip for strip in sorted(summary.queues, key=lambda strip: strip.mean)}
    named = {summary.verdict.bottleneck, *summary.verdict.also}
    found = []
    for row in sorted(rows, key=lambda row: _place(row.name)):
        there = row.busy / row.utilisation if row.utilisation else 0.0
        waits = [row.starved / there, row.blocked / there] if there else [0.0, 0.0]
        found.append(_box(row.name, row.threads, [row.utilisation, *waits], before.get(row.name), named))
    wait = next((part.share for part in summary.parts if part.name == "wait"), 0.0)
    found.append(_box(LOOP, 1, [1 - wait, wait, 0.0], before.get(LOOP), named))
    return found


def in_flow(strips: Sequence[QueueStrip]) -> list[QueueStrip]:
    """Queue strips in the order of the data, the loop's last."""
    return sorted(strips, key=lambda strip: len(FLOW) if strip.taker == LOOP else _place(strip.taker))


def _place(name: str) -> float:
    return FLOW.index(name) if name in FLOW else FLOW.index("collate") - 0.5


def _box(name: str, threads: int, shares: list[float], queue: QueueStrip | None, named: set[str | None]) -> Box:
    shares = [max(0.0, share) for share in shares]
    # Waits that overlap (one thread's spans inside another's) may claim more time than there was.
    whole = max(1.0, sum(shares))
    shares = [share / whole for share in shares]
    shares.append(1 - sum(shares))
    x, placed = 0.0, []
    for state, share in zip(STATES, shares, strict=True):
        placed.append((state, max(0.0, share), round(x * 100, 2)))
        x += share
    return Box(name=name, threads=threads, shares=tuple(placed), queue=queue, bottleneck=name in named)


def strip_path(strip: QueueStrip) -> str:
    """The levels of a queue as a filled SVG path; the top is the most that lay there."""
    n, top = len(strip.levels), max(strip.most, 1)
    points = [f"M0,{HEIGHT:g}"]
    for i, level in enumerate(strip.levels):
        y = HEIGHT - min(level / top, 1.0) * HEIGHT
        points.append(f"L{i / n * WIDTH:.1f},{y:.1f} L{(i + 1) / n * WIDTH:.1f},{y:.1f}")
    return " ".join(points) + f" L{WIDTH:g},{HEIGHT:g}Z"
