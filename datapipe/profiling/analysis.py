"""Spans in, a `Summary` out: the ledger, the waits, the path, the stages and the verdict put together.

Invariant: nothing here reads a clock or the machine; the same spans give the same summary.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, final

from datapipe.events import DEVICE, FURTHER, MOST_NAMES
from datapipe.profiling.critical_path import critical_path
from datapipe.profiling.intervals import covered, union
from datapipe.profiling.ledger import Ledger, build_ledger
from datapipe.profiling.lock_contention import steady_lock
from datapipe.profiling.lock_waits import LockWait, holds, lock_held, loop_waits
from datapipe.profiling.measures import measure
from datapipe.profiling.phase_waits import waiting_phases
from datapipe.profiling.phases import phases
from datapipe.profiling.precedence import Precedence, loader_spans, match_batches
from datapipe.profiling.queues import queue_strips
from datapipe.profiling.stages import stage_rows
from datapipe.profiling.summary import STEP_CAP, Part, RecorderCost, StepSeries, Summary
from datapipe.profiling.verdict import judge
from datapipe.profiling.waits import UNSEEN, WaitSplit, split_waits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.environment import Fact
    from datapipe.profiling.machine_watch import Watched
    from datapipe.profiling.ranks import Rank

    Ints = npt.NDArray[np.int64]


@final
@dataclass(frozen=True, kw_only=True)
class RawRun:
    """A run as recorded, before any analysis.

    Attributes:
        spans: structured array of `events.FIELDS`.
        stages: stage names by number.
        threads: thread names by number.
        began, ended: ns on the spans' clock.
        wall: ns on a clock apart.
        started_unix_ns: when, in UTC.
        lost: spans overwritten before they were read.
        watched: the machine's counters meanwhile. background_cpu: ns of CPU time of the profile's own threads.
    """

    spans: npt.NDArray[np.void]
    stages: tuple[str, ...]
    threads: tuple[str, ...]
    began: int
    ended: int
    wall: int
    started_unix_ns: int
    complete: bool = True
    error: str | None = None
    title: str = ""
    samples: int | None = None
    lost: int = 0
    ns_per_span: float = 0.0
    memory: tuple[tuple[float, int], ...] = ()
    environment: Mapping[str, Fact] = field(default_factory=dict)
    notes: Mapping[str, Fact] = field(default_factory=dict)
    rank: Rank | None = None
    watched: Watched | None = None
    background_cpu: int = 0


def summarise(run: RawRun) -> Summary:
    """The summary of one run."""
    import numpy as np

    spans, stages = run.spans, run.stages
    ledger = build_ledger(run.spans, run.stages, began=run.began, ended=run.ended, wall=run.wall)
    mask = loader_spans(spans, stages, ledger)
    work = Precedence(spans[mask], stages)
    batches = match_batches(spans, stages, ledger)
    holding = lock_held(run, ledger, mask)
    split = split_waits(ledger, work, batches, holds(run, holding))
    locked = loop_waits(run, ledger, mask, holding)
    path = critical_path(ledger, work, batches, split, locked)

    steady = ledger.steady
    total = ledger.ns.sum(axis=1)
    count = int(np.count_nonzero(steady))
    step = _part("step", total, steady, None) if count else None
    parts = tuple(_part(n, ledger.ns[:, c], steady, step) for c, n in enumerate(ledger.names)) if count else ()
    waits = tuple(_part(n, split.ns[:, c], steady, step) for c, n in enumerate(split.names)) if count else ()
    lock_waits = tuple(
        LockWait(stage=locked.holder, part=name, mean=float(ns[steady].mean()))
        for name, ns in locked.ns.items()
        if count
    )
    device = _device_parts(run, ledger, step)
    hidden = float(ledger.hidden[steady].mean()) if count else 0.0
    on_host = spans[spans["flags"] & DEVICE == 0]
    recorded = len(np.unique(spans["thread"])) or 1
    rate = 1e9 / step.mean if step is not None and step.mean > 0 else 0.0
    verdict = judge(step, parts, waits, path, hidden=hidden, steady=count, device=device, lock_waits=lock_waits)
    beside_steps = waiting_phases(run, ledger)
    if beside_steps:
        verdict = replace(verdict, sentence=" ".join((verdict.sentence, *beside_steps)))
    lock = steady_lock(run, ledger, holding, lock_waits)
    beside = measure(run, ledger, lock=lock)
    return Summary(
        complete=run.complete, error=run.error, title=run.title, started_unix_ns=run.started_unix_ns,
        wall_ns=run.wall, remainder_ns=ledger.remainder,
        steps_per_second=rate,
        samples=run.samples, step=step, parts=parts, waits=waits, hidden_ns=hidden, device=device,
        run=tuple(
            Part(name=n, mean=float(v), p50=float(v), p95=float(v), share=v / run.wall if run.wall else 0.0, total=v)
            for n, v in ledger.run.items()
        ),
        epochs=int(ledger.epoch[-1]) + 1 if len(ledger.epoch) else 0, steady_steps=count,
        series=_series(ledger, split.names, split.ns, run.began),
        stages=stage_rows(on_host, stages, path=path),
        path_ns=dict(path),
        verdict=verdict,
        memory=list(run.memory),
        recorder=RecorderCost(
            spans=len(spans), lost=run.lost, ns_per_span=run.ns_per_span,
            share=run.ns_per_span * len(spans) / (run.wall * recorded) if run.wall else 0.0, threads=run.threads,
        ),
        queues=queue_strips(work, ledger, batches),
        phases=phases(on_host, stages, ledger, run.began),
        unmeasured=_unmeasured(run, ledger, split, bool(mask.any())),
        environment=dict(run.environment), notes=dict(run.notes), rank=run.rank,
        io=beside.io, memory_use=beside.memory_use, lock=beside.lock, cpu=beside.cpu, overhead=beside.overhead,
        lock_waits=lock_waits,
    )  # fmt: skip


def _device_parts(run: RawRun, ledger: Ledger, step: Part | None) -> tuple[Part, ...]:
    """The steady steps as the device ran them: each stage, and "busy" for their union."""
    import numpy as np

    spans = run.spans[run.spans["flags"] & DEVICE != 0]
    if step is None or not len(spans):
        return ()
    stages = [(run.stages[i], spans[spans["stage"] == i]) for i in np.unique(spans["stage"]).tolist()]
    return tuple(
        _part(name, covered(ledger.start, ledger.end, union(mine["start"], mine["end"])), ledger.steady, step)
        for name, mine in [*stages, ("busy", spans)]
    )


def _part(name: str, ns: Ints, steady: npt.NDArray[np.bool_], step: Part | None) -> Part:
    import numpy as np

    chosen = ns[steady]
    mean = float(chosen.mean())
    p50, p95 = np.percentile(chosen, [50, 95]).tolist()
    share = 1.0 if step is None else (mean / step.mean if step.mean else 0.0)
    return Part(name=name, mean=mean, p50=p50, p95=p95, share=share, total=int(ns.sum()))


def _series(ledger: Ledger, wait_names: Sequence[str], wait_ns: Ints, began: int) -> StepSeries:
    n = len(ledger.start)
    every = max(1, -(-n // STEP_CAP))
    pick = slice(0, n, every)
    return StepSeries(
        count=n,
        every=every,
        number=ledger.number[pick].tolist(),
        start_ns=(ledger.start[pick] - began).tolist(),
        total_ns=(ledger.end - ledger.start)[pick].tolist(),
        kind=ledger.kind[pick].tolist(),
        parts_ns={name: ledger.ns[pick, c].tolist() for c, name in enumerate(ledger.names)},
        waits_ns={name: wait_ns[pick, c].tolist() for c, name in enumerate(wait_names)},
    )


def _unmeasured(run: RawRun, ledger: Ledger, split: WaitSplit, loader_seen: bool) -> tuple[str, ...]:
    """What this profile cannot see, said rather than left to be found out."""
    lines = []
    if len(ledger.start):
        waited = split.ns.sum()
        unseen = split.ns[:, split.names.index(UNSEEN)].sum() / waited if UNSEEN in split.names and waited else 0.0
        steady = ledger.steady
        if not loader_seen and ledger.part("wait").any():
            lines.append("The loader's inside: it records no spans, so its wait is one closed box.")
        elif unseen >= 0.01:
            lines.append(f"{unseen:.0%} of the wait: the loader's spans do not explain it (shown as “loader”).")
        other = ledger.part("other")[steady].sum() / max(1, ledger.ns[steady].sum())
        if other >= 0.02:
            lines.append(f"{other:.0%} of the steady step runs under no phase (shown as “other”).")
        if len(ledger.names) <= 2:
            lines.append("The parts of the compute: the loop names no phases, so all of it is “other”.")
    if not (run.spans["flags"] & DEVICE).any():
        lines.append(
            "The device's own timeline: all times are the host's; work queued on a GPU shows where the host waits."
        )
    if FURTHER in run.stages:
        lines.append(f"Phases and stages beyond {MOST_NAMES} names, one by one: they are together in “{FURTHER}”.")
    if run.lost:
        lines.append(f"{run.lost:,} spans that were overwritten before they could be read.")
    if ledger.missing:
        lines.append(f"{ledger.missing:,} steps whose spans are missing: where they ran is in the remainder.")
    if ledger.overlapping:
        lines.append(f"{ledger.overlapping:,} steps overlap others; what two claim makes the remainder negative.")
    if not run.memory:
        lines.append("Memory: this system does not report the resident size.")
    if not run.complete:
        lines.append("The end of the run: it was cut short.")
    return tuple(lines)
