"""Spans in, a `Summary` out: what was found of the ledger, the waits, the path and the stages, and the verdict on it.

Invariant: nothing here reads a clock or the machine; the same spans give the same summary.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, final

from datapipe.events import DEVICE, FURTHER, MOST_NAMES
from datapipe.profiling.findings import Whole, find
from datapipe.profiling.lock_contention import steady_lock
from datapipe.profiling.lock_waits import LockWait
from datapipe.profiling.long_runs import find_long
from datapipe.profiling.measures import measure
from datapipe.profiling.phase_waits import waiting_phases
from datapipe.profiling.phases import phases
from datapipe.profiling.queues import queue_strips
from datapipe.profiling.stages import StageTally
from datapipe.profiling.summary import STEP_CAP, Part, RecorderCost, StepSeries, Summary
from datapipe.profiling.verdict import judge
from datapipe.profiling.waits import UNSEEN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.environment import Fact
    from datapipe.profiling.ledger import Ledger
    from datapipe.profiling.machine_watch import Watched
    from datapipe.profiling.ranks import Rank
    from datapipe.profiling.stretches import LongRun

    Ints = npt.NDArray[np.int64]

_GOLDEN: Final = 0.6180339887498949
"""Multiples of the golden ratio's fraction fill an interval evenly from the first on (Knuth, TAOCP 3, 6.4)."""


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
        long: of a run of more spans than are kept as they are, all of them; `spans` are then its newest.
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
    long: LongRun | None = None
    watched: Watched | None = None
    background_cpu: int = 0

    @property
    def newest(self) -> RawRun:
        """Of a long run the end, as far as `spans` go, as a run of its own; a short one itself."""
        if self.long is None or not len(self.spans):
            return self
        began = int(self.spans["start"].min())
        return replace(
            self, began=began, wall=self.ended - began, started_unix_ns=self.started_unix_ns + began - self.began,
            long=None,
        )  # fmt: skip

    @property
    def recorded(self) -> int:
        """Spans of the whole run."""
        return len(self.spans) if self.long is None else self.long.count


def summarise(run: RawRun) -> Summary:
    """The summary of one run."""
    import numpy as np

    whole = _whole(run) if run.long is None else find_long(run, run.long)
    found, stages = whole.found, run.stages
    ledger, split, locked, path = found.ledger, found.split, found.locked, found.path
    run = replace(run, spans=whole.spans)
    on_host = run.spans[run.spans["flags"] & DEVICE == 0]
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
    device = () if step is None else tuple(_part(name, ns, steady, step) for name, ns in found.device.items())
    hidden = float(ledger.hidden[steady].mean()) if count else 0.0
    recorded = len(whole.recorded) or 1
    steps = len(ledger.start) + sum(count for _, _, count in whole.left_out)
    rate = 1e9 / step.mean if step is not None and step.mean > 0 else 0.0
    verdict = judge(step, parts, waits, path, hidden=hidden, steady=count, device=device, lock_waits=lock_waits)
    beside_steps = waiting_phases(run, ledger)
    if beside_steps:
        verdict = replace(verdict, sentence=" ".join((verdict.sentence, *beside_steps)))
    lock = steady_lock(run, ledger, found.together, lock_waits)
    beside = measure(run, ledger, whole.recorded, steps=steps, lock=lock)
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
        series=_series(ledger, split.names, split.ns, run.began, steps),
        stages=whole.tally.rows(stages, path=path),
        path_ns=dict(path),
        verdict=verdict,
        memory=list(run.memory),
        recorder=RecorderCost(
            spans=whole.count, lost=run.lost, ns_per_span=run.ns_per_span,
            share=run.ns_per_span * whole.count / (run.wall * recorded) if run.wall else 0.0, threads=run.threads,
        ),
        queues=queue_strips(ledger, found.lying),
        phases=phases(on_host, stages, ledger, run.began, whole.left_out),
        unmeasured=_unmeasured(run, whole),
        environment=dict(run.environment), notes=dict(run.notes), rank=run.rank,
        io=beside.io, memory_use=beside.memory_use, lock=beside.lock, cpu=beside.cpu, overhead=beside.overhead,
        lock_waits=lock_waits,
    )  # fmt: skip


def _whole(run: RawRun) -> Whole:
    tally = StageTally()
    tally.add(run.spans)
    return Whole(found=find(run), tally=tally, spans=run.spans, count=len(run.spans), recorded=tally.recorded)


def _part(name: str, ns: Ints, steady: npt.NDArray[np.bool_], step: Part | None) -> Part:
    import numpy as np

    chosen = ns[steady]
    mean = float(chosen.mean())
    p50, p95 = np.percentile(chosen, [50, 95]).tolist()
    share = 1.0 if step is None else (mean / step.mean if step.mean else 0.0)
    return Part(name=name, mean=mean, p50=p50, p95=p95, share=share, total=int(ns.sum()))


def _series(ledger: Ledger, wait_names: Sequence[str], wait_ns: Ints, began: int, steps: int) -> StepSeries:
    import numpy as np

    n = len(ledger.start)
    every = max(1, -(-n // STEP_CAP))
    pick = np.arange(0, n, every)
    if every > 1:  # one of each so many, not always the same: what comes at every eighth step is seen as often as it is
        pick = np.minimum(pick + (np.arange(len(pick)) * _GOLDEN % 1.0 * every).astype(np.int64), n - 1)
    return StepSeries(
        count=steps,
        every=max(1, round(steps / max(1, len(pick)))) if every > 1 or steps > n else 1,
        number=ledger.number[pick].tolist(),
        start_ns=(ledger.start[pick] - began).tolist(),
        total_ns=(ledger.end - ledger.start)[pick].tolist(),
        kind=ledger.kind[pick].tolist(),
        parts_ns={name: ledger.ns[pick, c].tolist() for c, name in enumerate(ledger.names)},
        waits_ns={name: wait_ns[pick, c].tolist() for c, name in enumerate(wait_names)},
    )


def _unmeasured(run: RawRun, whole: Whole) -> tuple[str, ...]:
    """What this profile cannot see, said rather than left to be found out."""
    import numpy as np

    lines = []
    ledger, split = whole.found.ledger, whole.found.split
    if len(ledger.start):
        waited = split.ns.sum()
        unseen = split.ns[:, split.names.index(UNSEEN)].sum() / waited if UNSEEN in split.names and waited else 0.0
        steady = ledger.steady
        if not whole.found.loader_seen and ledger.part("wait").any():
            lines.append("The loader's inside: it records no spans, so its wait is one closed box.")
        elif unseen >= 0.01:
            lines.append(f"{unseen:.0%} of the wait: the loader's spans do not explain it (shown as “loader”).")
        other = ledger.part("other")[steady].sum() / max(1, ledger.ns[steady].sum())
        if other >= 0.02:
            lines.append(f"{other:.0%} of the steady step runs under no phase (shown as “other”).")
        if len(ledger.names) <= 2:
            lines.append("The parts of the compute: the loop names no phases, so all of it is “other”.")
    if not whole.found.device:
        lines.append(
            "The device's own timeline: all times are the host's; work queued on a GPU shows where the host waits."
        )
    if FURTHER in run.stages:
        lines.append(f"Phases and stages beyond {MOST_NAMES} names, one by one: they are together in “{FURTHER}”.")
    if run.lost:
        lines.append(f"{run.lost:,} spans that were overwritten before they could be read.")
    if whole.left_out:
        count, ns = (sum(each[k] for each in whole.left_out) for k in (2, 1))
        lines.append(
            f"{count:,} steps of this long run, {ns / run.wall:.0%} of its time, in stretches spread over it: only"
            f" their number and time are known; what a step is made of is that of the other {len(ledger.start):,}."
        )
    if whole.walked is not None and whole.walked < np.count_nonzero(ledger.steady):
        lines.append(f"The critical path of all steps: it is that of {whole.walked:,}, spread over this long run.")
    if ledger.missing:
        lines.append(f"{ledger.missing:,} steps whose spans are missing: where they ran is in the remainder.")
    if ledger.overlapping:
        lines.append(f"{ledger.overlapping:,} steps overlap others; what two claim makes the remainder negative.")
    if not run.memory:
        lines.append("Memory: this system does not report the resident size.")
    if not run.complete:
        lines.append("The end of the run: it was cut short.")
    return tuple(lines)
