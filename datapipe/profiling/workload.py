"""A recorded run as work to be done again: jobs, what each needs, and the loop that takes the batches.

What enters: spans. What leaves: a `Workload` of the run's longest epoch, free of the recording's own timing: how long
each piece computed and waited, not when.
Invariant: jobs only need jobs before them in the list, so every replay ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

from datapipe.profiling.costs import Costs, Segment
from datapipe.profiling.ledger import build_ledger
from datapipe.profiling.precedence import BLOCK_STAGES, FROM_BLOCKS, loader_spans, match_batches
from datapipe.profiling.waits import QUEUE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.profiling.analysis import RawRun

_WRITTEN: Final = 1_000_000
"""Ns within which a loop has written down that it took a batch: its slot is free before."""
_LONG: Final = 500_000
"""Ns; a thread that begins ready work later than this had to wait for something: wake-ups take a tenth of it."""
_SOME: Final = 0.05
"""Share of a pool's time lost in waiting for room from which its limit is known."""
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
@dataclass(frozen=True, kw_only=True)
class Take:
    """The loop takes a batch (made by job `job`; -1: not seen) and computes. `blind`: ns it waited for unseen work."""

    job: int
    blind: float
    work: tuple[Segment, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Workload:
    """What there is to do and with what.

    Attributes:
        jobs: the loader's work, in the order it was begun.
        takes: the loop's.
        pools: threads of each pool (threads that share stages are one pool).
        stages: the stages of each pool.
        helps: pools whose work the loop's own thread does too, while it waits.
        ahead: per pool, batches that block jobs (first) and batch jobs (second) may run ahead of the one that the loop
            takes next; 0: that one alone.
        cores: CPUs the run could use.
        serial: stages that hold the interpreter lock while they compute. held: share of it that each does; not said: 1.
        unsure: stages of which the run does not show whether they do (they never ran twice at once).
        recorded_ns: mean step as recorded, ns, without the first.
        takes_per_step: batches the loop takes in a step.
        wake: ns from a batch being made to a loop that waited for it going on.
        switch: ns after which a thread gives the interpreter lock to one that asks for it; 0: nobody holds it.
        drift: standard deviation of the recorded mean step over the run's quarters, as a share of it.
        stalled: share of the run in which some task of the machine waited for a core (PSI); None: not told.
        busy: cores that the recorded work used, on average.
        ordered: whether the loop takes batches in their order, or whichever is ready.
    """

    jobs: tuple[Job, ...]
    takes: tuple[Take, ...]
    pools: tuple[int, ...]
    stages: tuple[frozenset[str], ...]
    helps: frozenset[int]
    ahead: tuple[tuple[int, int], ...]
    cores: float
    serial: frozenset[str]
    unsure: frozenset[str]
    recorded_ns: float
    takes_per_step: float
    wake: float = 0.0
    switch: float = 0.0
    drift: float = 0.0
    ordered: bool = True
    held: Mapping[str, float] = field(default_factory=dict)
    stalled: float | None = None
    busy: float = 0.0


def workload_of(run: RawRun, *, cores: float) -> Workload | None:
    """The longest epoch of a run as work; None where it has fewer than 4 steps.

    Args:
        run: the spans.
        cores: CPUs the run could use.
    """
    import numpy as np

    ledger = build_ledger(run.spans, run.stages, began=run.began, ended=run.ended, wall=run.wall)
    if len(ledger.start) < 4:
        return None
    epochs, counts = np.unique(ledger.epoch, return_counts=True)
    steps = np.flatnonzero(ledger.epoch == epochs[counts.argmax()])
    if len(steps) < 4:
        return None
    batches = match_batches(run.spans, run.stages, ledger)
    chosen = np.flatnonzero(np.isin(ledger.waits[:, 2], steps))
    waits, wanted = ledger.waits[chosen], batches[chosen].tolist()
    place = {batch: k for k, batch in reversed(list(enumerate(wanted))) if batch >= 0}
    mask = loader_spans(run.spans, run.stages, ledger)
    inline = set(np.flatnonzero(ledger.inline & mask).tolist())
    spans = run.spans
    last = ledger.end[steps[-1]]
    begun = ledger.start[steps[0]] if epochs[counts.argmax()] > epochs[0] else run.began
    # What was read ahead for this epoch began in the one before; its items are told apart by who takes them.
    order: list[int] = np.flatnonzero(mask & (spans["start"] < last) & (spans["end"] > begun)).tolist()
    order.sort(key=lambda i: (int(spans["start"][i]), int(spans["end"][i])))
    costs = Costs(run, ledger.thread, order, cores)
    rows = _rows(run, order)
    pool_of, stages = _pools(rows)
    jobs, made = _jobs(rows, pool_of, place, costs, ledger.thread, waits[:, :2].tolist())
    taken = waits[:, 1].tolist()
    crews = [{row.thread for row in rows if pool_of[row.stage] == p} - {ledger.thread} for p in range(len(stages))]
    threads = [len(crew) for crew in crews]
    ahead = _ahead(jobs, made.starts, taken, threads)
    helped = frozenset(pool_of[row.stage] for row in rows if row.index in inline)
    takes = []
    for k, (start, end, step) in enumerate(waits.tolist()):
        until = int(waits[k + 1, 0]) if k + 1 < len(waits) and waits[k + 1, 2] == step else int(ledger.end[step])
        parts = {
            n: int(v) for n, v in zip(ledger.names, ledger.ns[step].tolist(), strict=True) if n != "wait" and v > 0
        }
        whole = sum(parts.values()) or 1
        work = tuple(costs.own(n, (until - end) * ns / whole, end, until) for n, ns in parts.items() if until > end)
        job = made.of_batch.get(wanted[k], -1)
        takes.append(Take(job=job, blind=float(end - start) if job < 0 else 0.0, work=work))
    walls = (ledger.end - ledger.start)[steps]
    return Workload(
        jobs=tuple(jobs), takes=tuple(takes), pools=tuple(threads), stages=tuple(stages), helps=helped, ahead=ahead,
        cores=cores, serial=frozenset(costs.serial), held=costs.serial, unsure=costs.unsure,
        recorded_ns=float(walls[1:].mean()),
        takes_per_step=len(takes) / len(steps),
        stalled=None if run.watched is None else run.watched.stalled,
        busy=float(spans["cpu"].sum()) / max(1, run.ended - run.began),
        drift=_drift(walls[1:].tolist()), switch=costs.switch,
        wake=_wake(waits[:, :2].tolist(), [made.ended.get(b, -1) for b in wanted]),
    )  # fmt: skip


@final
@dataclass(frozen=True)
class _Row:
    index: int
    stage: str
    thread: int
    item: int
    cause: int
    get: int
    start: int
    end: int
    put: int


def _rows(run: RawRun, order: list[int]) -> list[_Row]:
    return [
        _Row(
            i, run.stages[s["stage"]], int(s["thread"]), int(s["item"]), int(s["cause"]), int(s["get"]),
            int(s["start"]), int(s["end"]), int(s["put"]),
        )
        for i in order
        for s in (run.spans[i],)
    ]  # fmt: skip


def _pools(rows: list[_Row]) -> tuple[dict[str, int], list[frozenset[str]]]:
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
class _Made:
    """Which job made what, while the jobs are put together."""

    def __init__(self) -> None:
        self.of_batch: dict[int, int] = {}
        self.of_block: dict[int, int] = {}
        self.starts: list[tuple[int, int]] = []
        self.ended: dict[int, int] = {}


def _jobs(
    rows: list[_Row],
    pool_of: Mapping[str, int],
    place: Mapping[int, int],
    costs: Costs,
    consumer: int,
    waits: list[list[int]],
) -> tuple[list[Job], _Made]:
    """Consecutive spans of one thread on one item are one job."""
    made = _Made()
    parts: list[tuple[list[_Row], bool, int, list[int]]] = []
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
    number = {at: n for n, at in enumerate(kept)}
    late = _handing_over([part[0] for part in parts], consumer)

    def between(ns: float) -> Segment:  # bookkeeping is Python: it wants the lock where others hold it
        python = QUEUE in costs.serial
        return Segment(stage=QUEUE, cpu=ns if python else 0.0, idle=0.0 if python else ns)

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


def _handing_over(parts: list[list[_Row]], consumer: int) -> list[float]:
    """What each job's thread did between its last job and this one, ns: bookkeeping, its turn at a lock.

    Where the thread says when it began to wait for work (`get`), what is before; a thread that is never idle spends all
    of it so, and then that is the mean. The loop's own thread does other things between.
    """
    last: dict[int, _Row] = {}
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


def _busy(rows: list[_Row]) -> float:
    """Share of its threads' time, from the first span to the last, that spans fill."""
    if not rows:
        return 0.0
    length = max(row.end for row in rows) - min(row.start for row in rows)
    return sum(row.end - row.start for row in rows) / (length * len({row.thread for row in rows}) or 1)


def _wake(waits: list[list[int]], ended: list[int]) -> float:
    """Mean ns from a batch being made to a loop that waited for it going on; 0 where it never did."""
    late = [end - made for (asked, end), made in zip(waits, ended, strict=True) if asked < made <= end]
    return sum(late) / len(late) if late else 0.0


def _drift(walls: list[int]) -> float:
    import statistics

    if len(walls) < 8:
        return 0.0
    part = len(walls) // 4
    means = [statistics.fmean(walls[i * part : (i + 1) * part]) for i in range(4)]
    return statistics.stdev(means) / (statistics.fmean(means) or 1.0)


def _held_back(parts: list[tuple[list[_Row], list[int]]], consumer: int, waits: list[list[int]]) -> list[int]:
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


def _ahead(
    jobs: list[Job], starts: list[tuple[int, int]], taken: list[int], threads: list[int]
) -> tuple[tuple[int, int], ...]:
    """How far ahead of the loop each pool may begin work, in batches: block jobs, then batch jobs.

    As far as those were that had to wait for room. A pool that hardly lost time so shows no limit: none is supposed.
    """
    import bisect

    leads: list[tuple[list[int], list[int]]] = [([], []) for _ in threads]
    lost = [[0, 0] for _ in threads]
    for job, (start, gap) in zip(jobs, starts, strict=True):
        if gap:
            lost[job.pool][not job.block] += gap
            leads[job.pool][not job.block].append(max(0, job.batch - bisect.bisect_right(taken, start + _WRITTEN)))
    length = max((start for start, _ in starts), default=0) - min((start for start, _ in starts), default=0)

    def limit(pool: int, kind: int) -> int:
        found = sorted(leads[pool][kind])
        known = found and lost[pool][kind] >= _SOME * length * max(1, threads[pool])
        return found[len(found) // 2] if known else len(taken)

    return tuple((limit(pool, 0), limit(pool, 1)) for pool in range(len(threads)))
