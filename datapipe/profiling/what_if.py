"""What a change to a run would bring: the recorded work, changed, replayed beside the same work unchanged.

What enters: a run and a `Change`. What leaves: a `Prediction` with an 80% interval. For whoever gives advice:

    what_if(run, change)     one change → `Prediction(change, recorded_ns, step_ns, low, high, extrapolated, reason)`
    predict_all(run)         every change that applies, largest gain first
    predict(work, change)    the same for a `workload_of(run)` at hand: several questions about one run

Invariant: the same run and change give the same prediction; a change of nothing predicts the recorded step.

The replayed step is scaled by what the replay of the unchanged run misses of the recording, so that what the model
leaves out (hand-overs, a busy machine) cancels. How wide the interval is: `uncertainty`; where it is not known whether
a stage holds the interpreter's lock, it holds both answers.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from typing import TYPE_CHECKING, Final

from datapipe.errors import ProfileError
from datapipe.events import HIT, MISS
from datapipe.profiling.changes import COMPUTE, DECODING, MOVING, STORAGE, Change, Prediction
from datapipe.profiling.costs import Segment
from datapipe.profiling.larger_blocks import larger_blocks
from datapipe.profiling.replay import replay
from datapipe.profiling.uncertainty import fits, half_width, tried
from datapipe.profiling.waits import QUEUE
from datapipe.profiling.workload import Workload, workload_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.analysis import RawRun
    from datapipe.profiling.jobs import Job
    from datapipe.profiling.recording import Profile

_CACHE_BYTES_PER_NS: Final = 2.0
"""Read speed supposed of a cache that the run never hit: 2 GB/s, a page cache's copy on one slow core."""
_SENT_NS: Final = 450_000.0
"""Ns that sending a batch to a worker process and back adds to a step of our own loader: the median of what 14 executed
changes took longer than predicted without it, -1.9 to 1.3 ms (`datapipe selftest`, seeds 0 and 21; batches of 64 kB,
two cores)."""
_SAID: Final = {
    frozenset(STORAGE): "reads from storage that were recorded", frozenset({"fetch"}): "a fetch from storage",
    frozenset(DECODING): "decoding that was recorded", frozenset(MOVING): "a copy of a batch that was recorded",
    frozenset(COMPUTE): "a forward, a backward or an optimizer step", frozenset({"h2d"}): "a copy to a device",
}  # fmt: skip
"""Groups of stages in words, for an error: no user knows their names."""


def what_if(run: Profile | RawRun | Workload, change: Change, *, cores: float | None = None) -> Prediction:
    """Predict the steady step of a run with one change.

    Args:
        run: a closed `Profile`, the raw run, or its workload.
        change: what to change.
        cores: CPUs the run could use; None: as its environment says, else those this process may use.

    Raises:
        ProfileError: the run has fewer than 4 steps, or never ran the stage that is to change; `cores` is not a
            positive number.
    """
    return predict(run if isinstance(run, Workload) else work_of(run, cores=cores), change)


def predict_all(run: Profile | RawRun, *, cores: float | None = None) -> tuple[Prediction, ...]:
    """Predict every change that this run has the stages for, largest gain first; empty for fewer than 4 steps."""
    try:
        return predictions(work_of(run, cores=cores))
    except ProfileError:
        return ()


def predictions(work: Workload) -> tuple[Prediction, ...]:
    """Predict every change that a workload has the stages for, largest gain first."""
    base = replay(work)
    return tuple(sorted((predict(work, c, base) for c in changes_for(work)), key=lambda p: p.step_ns))


def changes_for(work: Workload) -> tuple[Change, ...]:
    """The changes that apply to a workload."""
    stages = {segment.stage for job in work.jobs for segment in job.work}
    hits = {segment.hit for job in work.jobs for segment in job.work}
    parts = {segment.stage for take in work.takes for segment in take.work}
    spent: dict[str, float] = {}
    for job in work.jobs:
        for segment in job.work:
            spent[segment.stage] = spent.get(segment.stage, 0.0) + segment.cpu + segment.idle
    pools = [sorted(names & stages, key=lambda name: -spent[name]) for names in work.stages if names & stages]
    found = [Change(kind="threads", stage=names[0], factor=2.0) for names in pools]
    if work.jobs:
        found.append(Change(kind="prefetch", factor=2.0))
    if MISS in hits:
        found.append(Change(kind="cache warm"))
    if stages & set(STORAGE):
        found.append(Change(kind="storage", factor=2.0))
    if "fetch" in stages:
        found.append(Change(kind="row groups", factor=2.0))
    if stages & set(DECODING):
        found.append(Change(kind="decode", factor=2.0))
    if "transform" in stages:
        found.append(Change(kind="offline", stage="transform"))
    if "transform" in work.serial | work.unsure:
        found.append(Change(kind="workers", stage="transform", factor=2.0))
    if sum(work.pools) > 1:
        found.append(Change(kind="order"))
    if parts & set(COMPUTE):
        found.append(Change(kind="device", factor=2.0))
    if (parts | stages) & set(MOVING):
        found.append(Change(kind="dtypes", factor=2.0))
    if "h2d" in parts | stages:
        found.append(Change(kind="pinned", factor=2.0))
    return tuple(found)


def predict(work: Workload, change: Change, base: npt.NDArray[np.float64] | None = None) -> Prediction:
    """Predict one change to a workload; `base` is its own replay, where that is at hand."""
    import numpy as np

    base = replay(work) if base is None else base
    changed, doubt = _changed(work, change)
    ends = replay(changed)
    if min(len(base), len(ends)) < len(work.takes):
        raise ProfileError("the recorded work cannot be replayed to its end", fix="record a longer run")
    before, after = _mean(base), _mean(ends)
    recorded = work.recorded_ns / work.takes_per_step
    scale = recorded / before if before else 1.0
    misfit = abs(scale - 1)
    low = high = half_width(work, change, before=before, after=after, recorded=recorded)
    step = after * scale
    reason = f"replay of {len(work.takes)} batches; unchanged it is {misfit:.1%} off the recording"
    doubt = "; ".join(filter(None, (doubt, "" if fits(misfit) else "so this run is not one that the model knows")))
    if doubt:
        reason += f"; {doubt}"
    if change.kind == "threads" and changed.unsure:
        other = _mean(replay(dataclasses.replace(changed, serial=changed.serial | changed.unsure))) * scale
        high = float(np.hypot(high, max(0.0, other - step)))
        low = float(np.hypot(low, max(0.0, step - other)))
    per = work.takes_per_step
    return Prediction(
        change=change, recorded_ns=work.recorded_ns, step_ns=step * per, low=max(0.0, step - low) * per,
        high=(step + high) * per, extrapolated=bool(doubt) or not tried(change), reason=reason,
    )  # fmt: skip


def work_of(run: Profile | RawRun, *, cores: float | None = None) -> Workload:
    """What a run did, to ask several questions about it.

    Raises:
        ProfileError: the run has fewer than 4 steps, or `cores` is not a positive number.
    """
    from datapipe.profiling.recording import Profile

    raw = (run.raw() if isinstance(run, Profile) else run).newest
    if cores is None:
        usable = raw.environment.get("cpus usable")
        cores = float(usable) if isinstance(usable, int) and usable > 0 else _cores()
    if not 0 < cores < float("inf"):
        raise ProfileError(f"{cores:g} cores", expected="a positive number")
    work = workload_of(raw, cores=cores)
    if work is None:
        raise ProfileError("too few steps to replay", expected="an epoch of at least 4", fix="record a longer run")
    return work


def _cores() -> float:
    affinity = getattr(os, "sched_getaffinity", None)  # what this process may use, where the system says
    return float(len(affinity(0)) if affinity else os.cpu_count() or 1)


def _mean(ends: npt.NDArray[np.float64]) -> float:
    """Mean step after the first: as the recording's, which leaves out the start."""
    return float((ends[-1] - ends[0]) / (len(ends) - 1)) if len(ends) > 1 else 0.0


def _changed(work: Workload, change: Change) -> tuple[Workload, str]:
    """The workload with the change, and what the answer then supposes ("": nothing)."""
    kind, factor, stage = change.kind, change.factor, change.stage
    if kind in ("threads", "workers"):
        pools = [p for p, names in enumerate(work.stages) if stage is None or stage in names]
        _known(bool(pools), stage or "loader", work)
        threads = tuple(max(1, round(n * factor)) if p in pools else n for p, n in enumerate(work.pools))
        names = frozenset[str]().union(*(work.stages[p] for p in pools))
        if kind == "workers":
            free = dataclasses.replace(work, serial=work.serial - names, unsure=work.unsure - names, pools=threads)
            if not work.cheap:
                return free, "leaves out handing batches between processes"
            sent = Segment(stage=QUEUE, cpu=0.0, idle=_SENT_NS)
            takes = tuple(dataclasses.replace(take, work=(sent, *take.work)) for take in work.takes)
            return dataclasses.replace(free, takes=takes), "supposes small batches: large ones take longer to send"
        unsure = work.unsure & names
        doubt = "this many threads were never seen"
        if unsure:
            doubt += f"; nor whether {', '.join(sorted(unsure))} lets others compute beside it"
        return dataclasses.replace(work, pools=threads, unsure=unsure), doubt
    if kind == "prefetch":
        # The one the loop takes next is in the making too: of a prefetch of 1 it is all there is.
        ahead = tuple((_times(a, factor), _times(b, factor)) for a, b in work.ahead)
        return dataclasses.replace(work, ahead=ahead), "it was never seen to read so far ahead" if factor > 1 else ""
    if kind == "order":
        return dataclasses.replace(work, ordered=False), ""
    if kind == "row groups":
        return _row_groups(work, factor)
    if kind == "cache warm":
        return _warm(work)
    if kind == "offline":
        kept = _each(work, {stage or ""}, lambda s: dataclasses.replace(s, cpu=0.0, idle=0.0))
        return kept, "the dataset then read may be larger or smaller"
    if kind == "latency":
        return _each(work, {"fetch"}, lambda s: dataclasses.replace(s, idle=max(0.0, s.idle + factor))), ""
    if kind == "storage":
        # The CPU's part of a fetch (copies, checks) is not the storage's.
        return _each(work, set(STORAGE), lambda s: dataclasses.replace(s, idle=s.idle / factor)), ""
    stages, doubt = {
        "decode": (set(DECODING), "a codec's cost is known only by measuring it"),
        "device": (set(COMPUTE), ""),
        "dtypes": (set(MOVING), "supposes that time goes with bytes"),
        "pinned": ({"h2d"}, "supposes the usual gain of pinned memory"),
        "faster": ({stage or ""}, ""),
    }[kind]
    return _each(work, stages, lambda s: dataclasses.replace(s, cpu=s.cpu / factor, idle=s.idle / factor)), doubt


def _times(ahead: int, factor: float) -> int:
    return max(0, round((ahead + 1) * factor) - 1)


def _warm(work: Workload) -> tuple[Workload, str]:
    """Reads that missed take what hits took, one after the other; without hits, a supposed speed."""
    hits = [s for job in work.jobs for s in job.work if s.hit == HIT and s.stage in STORAGE]
    _known(any(s.hit == MISS for job in work.jobs for s in job.work), "fetch from a cold cache", work)
    turn = itertools.cycle(hits)

    def warm(s: Segment) -> Segment:
        if s.hit != MISS:
            return s
        if not hits:
            return dataclasses.replace(s, idle=s.nbytes / _CACHE_BYTES_PER_NS, hit=HIT)
        like = next(turn)
        return dataclasses.replace(s, cpu=like.cpu, idle=like.idle, hit=HIT)

    return _each(work, set(STORAGE), warm), "" if hits else "no read hit a cache: 2 GB/s is supposed"


def _row_groups(work: Workload, factor: float) -> tuple[Workload, str]:
    """A `factor`th of the requests for the same bytes: what a fetch waits whatever its size is shared by `factor`.

    Least squares of waiting on bytes tells the two apart, where fetches differ in size enough to.
    """
    import numpy as np

    fetches = [s for job in work.jobs for s in job.work if s.stage == "fetch" and s.hit != HIT]
    _known(bool(fetches), "fetch", work)
    fetches = [s for s in fetches if s.nbytes] or fetches  # a look at a file that reads nothing is no request
    size = np.array([s.nbytes for s in fetches], dtype=float)
    idle = np.array([s.idle for s in fetches])
    told = len(size) > 2 and size.std() > 0.2 * size.mean()
    slope = max(0.0, float(np.polyfit(size, idle, 1)[0])) if told else 0.0
    fixed = min(max(0.0, float((idle - slope * size).mean())), float(idle.mean()))
    saved = fixed * (1 - 1 / factor)
    doubt = "larger blocks take more memory" if told else "fetches are of one size: all of their waiting is supposed"
    doubt += "" if told else " to be the request's, and none the bytes'"

    def again(s: Segment) -> Segment:
        return s if s.hit == HIT else dataclasses.replace(s, idle=max(0.0, s.idle - saved))

    per_batch = any(s.stage == "fetch" for job in work.jobs if not job.block for s in job.work)
    if per_batch or factor < 2 or factor != round(factor):
        return _each(work, {"fetch"}, again), doubt
    return larger_blocks(work, round(factor), saved_once=fixed), doubt


def _each(work: Workload, stages: set[str], to: Callable[[Segment], Segment]) -> Workload:
    """The workload with every segment of some stages made anew."""
    seen = False

    def again(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
        nonlocal seen
        seen = seen or any(s.stage in stages for s in segments)
        return tuple(to(s) if s.stage in stages else s for s in segments)

    jobs: list[Job] = [dataclasses.replace(job, work=again(job.work)) for job in work.jobs]
    takes = [dataclasses.replace(take, work=again(take.work)) for take in work.takes]
    _known(seen, _SAID.get(frozenset(stages)) or ", ".join(sorted(stages)), work)
    return dataclasses.replace(work, jobs=tuple(jobs), takes=tuple(takes))


def _known(seen: bool, what: str, work: Workload) -> None:
    if not seen:
        names = {s.stage for job in work.jobs for s in job.work} | {s.stage for t in work.takes for s in t.work}
        raise ProfileError(f"this run never ran {what}", expected=f"what it ran: {', '.join(sorted(names))}")
