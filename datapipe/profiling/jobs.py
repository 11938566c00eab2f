"""What threads of a loader did, as jobs: consecutive spans of one thread on one item, and what each had to wait for.

What enters: the loader's spans, and what they cost by themselves. What leaves: `Job`s, in the order they were begun.
Invariant: jobs only need jobs before them in the list; what no batch of the epoch needs is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, final

from datapipe.profiling.costs import Costs, Segment
from datapipe.profiling.precedence import BLOCK_STAGES, FROM_BLOCKS
from datapipe.profiling.waits import QUEUE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.profiling.analysis import RawRun

_LONG: Final = 500_000
"""Ns; a thread that begins ready work later than this had to wait for something: wake-ups take a tenth of it."""
_BEYOND: Final = 16
"""Batches of the next epoch that may be in the making when one ends: no loader here reads further ahead."""
_SATURATED: Final = 0.95
"""Share of a pool's time that its spans fill from which it counts as never idle: the rest is between jobs."""


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """Segments that one thread does in one go. `needs`: jobs before it; `batch`: the first take that needs it."""

    pool: int
    block: bool
    batch: int
    needs: tuple[int, ...]
    work: tuple[Segment, ...]


@final
@dataclass(frozen=True)
class Row:
    """A loader's span as plain numbers; `index`: its place among the run's spans."""

    index: int
    stage: str
    thread: int
    item: int
    cause: int
    get: int
    start: int
    end: int
    put: int


def rows_of(run: RawRun, order: list[int]) -> list[Row]:
    """The spans at these places, in that order."""
    return [
        Row(
            i, run.stages[s["stage"]], int(s["thread"]), int(s["item"]), int(s["cause"]), int(s["get"]),
            int(s["start"]), int(s["end"]), int(s["put"]),
        )
        for i in order
        for s in (run.spans[i],)
    ]  # fmt: skip


def pools_of(rows: list[Row]) -> tuple[dict[str, int], list[frozenset[str]]]:
    """Stages that some thread shares are served by one pool."""
    groups: list[set[str]] = []
    by_thread: dict[int, set[str]] = {}
    for row in rows:
        by_thread.setdefault(row.thread, set()).add(row.stage)
    for names in by_thread.values():
        joined = set(names)
        for group in [g for g in groups if g & joined]:
            joined |= group
            groups.remove(group)
        groups.append(joined)
    return {name: p for p, group in enumerate(groups) for name in group}, [frozenset(g) for g in groups]


@final
class Made:
    """Which job made what: `of_batch` and `of_block`, item → job; when jobs began (`starts`) and batches `ended`.

    `untaken`: whether the loader went on to work that no batch of the epoch needs.
    """

    def __init__(self) -> None:
        self.of_batch: dict[int, int] = {}
        self.of_block: dict[int, int] = {}
        self.starts: list[tuple[int, int]] = []
        self.ended: dict[int, int] = {}
        self.untaken = False


def jobs_of(
    rows: list[Row],
    pool_of: Mapping[str, int],
    place: Mapping[int, int],
    costs: Costs,
    consumer: int,
    waits: list[list[int]],
) -> tuple[list[Job], Made]:
    """Consecutive spans of one thread on one item are one job."""
    made = Made()
    parts: list[tuple[list[Row], bool, int, list[int]]] = []
    open_job: dict[int, int] = {}
    for row in rows:
        block = row.stage in BLOCK_STAGES
        at = open_job.get(row.thread, -1)
        if at >= 0 and parts[at][1] == block and row.item >= 0 and parts[at][0][0].item == row.item:
            parts[at][0].append(row)
            needs = parts[at][3]
        else:
            at = len(parts)
            needs = []
            parts.append(([row], block, row.item, needs))
            open_job[row.thread] = at
            before = (made.of_block if block else made.of_batch).get(row.item, -1)
            if before >= 0:
                needs.append(before)
        if row.cause >= 0:
            source = made.of_block if block or row.stage in FROM_BLOCKS else made.of_batch
            other = source.get(row.cause, -1)
            if 0 <= other < at:
                needs.append(other)
        if row.item >= 0:
            (made.of_block if block else made.of_batch)[row.item] = at
    first = [place.get(item, -1) if not block else -1 for _, block, item, _ in parts]
    for at in range(len(parts) - 1, -1, -1):  # work is needed as soon as the first job that needs it
        for other in parts[at][3]:
            if first[at] >= 0 and (first[other] < 0 or first[at] < first[other]):
                first[other] = first[at]
    kept = [at for at in range(len(parts)) if first[at] >= 0]
    made.untaken = bool(kept) and any(first[at] < 0 for at in range(kept[-1], len(parts)))
    number = {at: n for n, at in enumerate(kept)}
    late = _handing_over([part[0] for part in parts], consumer)

    # Bookkeeping is Python: it wants the lock where others hold it, and a core as far as the process used one unseen.
    share = 1.0 if QUEUE in costs.serial else min(1.0, costs.unseen / (sum(late) or 1.0))

    def between(ns: float) -> Segment:
        return Segment(stage=QUEUE, cpu=ns * share, idle=ns * (1 - share))

    jobs = [
        Job(
            pool=pool_of[parts[at][0][0].stage],
            block=parts[at][1],
            batch=first[at],
            needs=tuple(sorted({number[o] for o in parts[at][3] if o in number})),
            work=(between(late[at]), *(costs.of(row.index) for row in parts[at][0])),
        )
        for at in kept
    ]
    held = _held_back([(part[0], part[3]) for part in parts], consumer, waits)
    made.starts = [(parts[at][0][0].start, held[at]) for at in kept]
    made.ended = {batch: parts[at][0][-1].end for batch, at in made.of_batch.items()}
    made.of_batch = {batch: number[at] for batch, at in made.of_batch.items() if at in number}
    return jobs, made


def next_epoch(jobs: list[Job], takes: int) -> list[Job]:
    """The first jobs once more, after the last: a loader that was seen to go on into the next epoch keeps its threads.

    Without them more threads would do the last batches sooner than any that are not the last.
    """
    again = [at for at, job in enumerate(jobs) if job.batch < min(takes, _BEYOND)]
    number = {at: len(jobs) + n for n, at in enumerate(again)}
    return [
        replace(jobs[at], batch=jobs[at].batch + takes, needs=tuple(number[o] for o in jobs[at].needs if o in number))
        for at in again
    ]


def _handing_over(parts: list[list[Row]], consumer: int) -> list[float]:
    """What each job's thread did between its last job and this one, ns: bookkeeping, its turn at a lock.

    Where the thread says when it began to wait for work (`get`), what is before; a thread that is never idle spends all
    of it so, and then that is the mean. The loop's own thread does other things between.
    """
    last: dict[int, Row] = {}
    gaps: dict[int, list[tuple[int, int]]] = {}
    for part in sorted(parts, key=lambda part: part[0].start):
        head, before = part[0], last.get(part[0].thread)
        if before is not None and head.start >= before.end and head.thread != consumer:
            first = head.get - before.end if before.end <= head.get < head.start else -1
            gaps.setdefault(head.thread, []).append((head.start - before.end, first))
        last[head.thread] = part[-1]
    means = {}
    for thread, found in gaps.items():
        said = sorted(first for _, first in found if first >= 0)
        if _busy([row for part in parts for row in part if row.thread == thread]) >= _SATURATED:
            means[thread] = sum(whole for whole, _ in found) / len(found)
        elif said:
            means[thread] = float(said[len(said) // 2])
    return [means.get(part[0].thread, 0.0) for part in parts]


def _busy(rows: list[Row]) -> float:
    """Share of its threads' time, from the first span to the last, that spans fill."""
    if not rows:
        return 0.0
    length = max(row.end for row in rows) - min(row.start for row in rows)
    return sum(row.end - row.start for row in rows) / (length * len({row.thread for row in rows}) or 1)


def _held_back(parts: list[tuple[list[Row], list[int]]], consumer: int, waits: list[list[int]]) -> list[int]:
    """Ns that each job had to wait for room: input there, thread free, and meanwhile the loop did not wait either.

    Where the loop waits there is room, and a thread that begins late was woken late; but where a thread says that its
    output was not accepted (`put`), it was held back.
    """
    import numpy as np

    starts = np.array([wait[0] for wait in waits], dtype=np.int64)
    waited = np.append(0, np.cumsum([end - start for start, end in waits]))

    def waiting(until: int) -> int:
        """Ns that the loop had waited by a time."""
        i = int(np.searchsorted(starts, until, side="right"))
        return int(waited[i]) - (max(0, waits[i - 1][1] - until) if i else 0)

    last: dict[int, tuple[int, bool]] = {}
    held = [0] * len(parts)
    for at, (rows, needs) in sorted(enumerate(parts), key=lambda each: each[1][0][0].start):
        head = rows[0]
        free, refused = last.get(head.thread, (-1, False))
        begin = max([free, *(parts[other][0][-1].end for other in needs)])
        gap = head.start - begin
        if free >= 0 and head.thread != consumer and gap > _LONG:
            held[at] = gap if refused or waiting(head.start) - waiting(begin) < gap / 2 else 0
        last[head.thread] = rows[-1].end, rows[-1].put - rows[-1].end > _LONG
    return held
