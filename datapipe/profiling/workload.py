"""A recorded run as work to be done again: jobs, what each needs, and the loop that takes the batches.

What enters: spans. What leaves: a `Workload` of the run's longest epoch, free of the recording's own timing: how long
each piece computed and waited, not when.
Invariant: jobs only need jobs before them in the list, so every replay ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

from datapipe.events import CHEAP_NS
from datapipe.profiling.costs import Costs, Segment
from datapipe.profiling.jobs import Job, jobs_of, next_epoch, pools_of, rows_of
from datapipe.profiling.ledger import build_ledger
from datapipe.profiling.loader_facts import DATAPIPE
from datapipe.profiling.precedence import loader_spans, match_batches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.profiling.analysis import RawRun

_WRITTEN: Final = 1_000_000
"""Ns within which a loop has written down that it took a batch: its slot is free before."""
_SOME: Final = 0.05
"""Share of a pool's time lost in waiting for room from which its limit is known."""
_TAKING: Final = 60_000.0
"""Ns to take a batch that lies ready: 20 to 110 µs (medians of loops that hardly waited, on a quiet machine)."""
_TOLD: Final = 3
_MAD: Final = 1.4826
"""Standard deviation ÷ median absolute deviation of a normal distribution."""


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
        jobs: the loader's work, in the order it was begun; then what it may begin of the next epoch.
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
        wake: ns from a batch being made to a loop that waited for it going on. ready: ns to take one that lies there.
        switch: ns after which a thread gives the interpreter lock to one that asks for it; 0: nobody holds it.
        drift: how much the recorded step differs from one eighth of the run to another, as a share of it.
        stalled: share of the run in which some task of the machine waited for a core (PSI); None: not told.
        busy: cores that the recorded work used, on average.
        ordered: whether the loop takes batches in their order, or whichever is ready.
        cheap: the loop makes batches that take less (ns, the lower quartile) itself; 0: threads make all.
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
    ready: float = 0.0
    switch: float = 0.0
    drift: float = 0.0
    ordered: bool = True
    cheap: float = 0.0
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
    rows = rows_of(run, order)
    pool_of, stages = pools_of(rows)
    jobs, made = jobs_of(rows, pool_of, place, costs, ledger.thread, waits[:, :2].tolist())
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
    ended = [made.ended.get(batch, -1) for batch in wanted]
    beyond = next_epoch(jobs, len(takes)) if made.untaken else []
    return Workload(
        jobs=(*jobs, *beyond), takes=tuple(takes), pools=tuple(threads), stages=tuple(stages), helps=helped,
        ahead=ahead, cores=cores, serial=frozenset(costs.serial), held=costs.serial, unsure=costs.unsure,
        recorded_ns=float(walls[1:].mean()),
        takes_per_step=len(takes) / len(steps),
        stalled=None if run.watched is None else run.watched.stalled,
        busy=float(spans["cpu"].sum()) / max(1, run.ended - run.began),
        cheap=CHEAP_NS if run.notes.get("loader") == DATAPIPE else 0.0,
        drift=_drift(walls[1:].tolist()), switch=costs.switch,
        wake=_wake(waits[:, :2].tolist(), ended), ready=_ready(waits[:, :2].tolist(), ended),
    )  # fmt: skip


def _wake(waits: list[list[int]], ended: list[int]) -> float:
    """Mean ns from a batch being made to a loop that waited for it going on; 0 where it never did."""
    late = [end - made for (asked, end), made in zip(waits, ended, strict=True) if asked < made <= end]
    return sum(late) / len(late) if late else 0.0


def _ready(waits: list[list[int]], ended: list[int]) -> float:
    """Median ns that taking a batch took that had been made before; as `_TAKING` says where hardly any had.

    Never more than the median of those that had to wait once theirs was made: being woken and then taking it is no
    less than taking it. (The few batches that lie ready are often a run's first, taken while others had the cores:
    five of 26 said 17 ms where the others took 1.9, and the replay made each step of 13 ms one of 18.)
    """
    import statistics

    pairs = list(zip(waits, ended, strict=True))
    found = [end - asked for (asked, end), made in pairs if 0 <= made <= asked]
    woken = [end - made for (asked, end), made in pairs if asked < made <= end]
    told = float(statistics.median(found)) if len(found) >= _TOLD else _TAKING
    return min(told, float(statistics.median(woken))) if len(woken) >= _TOLD else told


def _drift(walls: list[int]) -> float:
    """Standard deviation, from their median absolute deviation, of an eighth's mean step, as a share of the mean.

    Of each eighth of the run the shortest three quarters of the steps: what single items cost is no drift.
    """
    import numpy as np

    if len(walls) < 16:
        return 0.0
    parts = [np.sort(part)[: max(1, len(part) * 3 // 4)].mean() for part in np.array_split(np.array(walls, float), 8)]
    mean = float(np.mean(parts))
    return _MAD * float(np.median(np.abs(parts - np.median(parts)))) / mean if mean > 0 else 0.0


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
