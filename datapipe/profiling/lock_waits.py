"""How long threads that slept then waited for Python's lock, and which stage held it meanwhile.

What enters: a run and the stages that hold the lock. What leaves: ns per span, and per step and part of the loop.
Invariant: a wait for the lock is never longer than its span was off the core; a run that nothing holds the lock in
has none.

A thread that wakes from a sleep, a read or a copy wants the lock. Where another holds it, it comes when that one lets
go or, as it is asked to, after the switch interval (5 ms: `sys.getswitchinterval`). So a span that ended while a holder
that had run for an interval ran on has waited for one interval; one near whose end nobody held the lock has not
waited. What lies between (a holder that let go just then, or had just begun) is told by the others: it was off the core
for longer than they were asleep.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

from datapipe.events import DEVICE
from datapipe.profiling.intervals import partition, union
from datapipe.profiling.lock_holders import MOSTLY, elsewhere, lock_holders
from datapipe.profiling.waits import Hold

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.analysis import RawRun
    from datapipe.profiling.ledger import Ledger

    Bools = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

COMPUTES: Final = 0.25
"""A stage on the CPU for less of its time than this waits for something else than a core."""
SWITCH: Final = 5e6
"""Ns; Python's own switch interval, where a run does not say."""
_HANDED_OVER: Final = 600_000
"""Ns within which who waited for the lock goes on after it was let go."""
_WAITED: Final = 100_000
"""Ns; a shorter wait is a hand-over."""
_TOLD: Final = 3
_USUAL: Final = 0.25
"""So many spans, and such a share of all, that ended while nobody or somebody else held the lock show how long a stage
sleeps, where there is none that nobody held it in. With fewer, or where what they show is longer than the others were
off the core (odd ones, that waited more than once), half of what the wait could be is taken."""


@final
@dataclass(frozen=True, kw_only=True)
class LockWait:
    """A part of the loop waited for the lock: `mean` ns per steady step in `part`, while `stage` held it."""

    stage: str
    part: str
    mean: float


@final
@dataclass(frozen=True, kw_only=True)
class LoopWaits:
    """What a loop waited for the lock.

    Attributes:
        ns: part → int64[steps], ns.
        holder: the stage that held it most; "": none did.
        let_go: step → the part, and when (ns) the holder was through and let it go on; the last of each step.
    """

    ns: Mapping[str, Ints] = field(default_factory=dict)
    holder: str = ""
    let_go: Mapping[int, tuple[str, int]] = field(default_factory=dict)


def lock_held(run: RawRun, ledger: Ledger, loader: Bools) -> Bools:
    """bool[spans]: the work of other threads than the loop's that held the lock.

    Args:
        run: the spans, and the probes of the lock.
        ledger: the steps.
        loader: bool[spans], the loader's work.
    """
    import numpy as np

    held = [name for name, share in lock_holders(run, computing(run, loader)).items() if share > MOSTLY]
    numbers = [run.stages.index(name) for name in held]
    others = np.isin(run.spans["thread"], [ledger.thread, *elsewhere(run)], invert=True)
    holding: Bools = loader & np.isin(run.spans["stage"], numbers) & others
    return holding


def holds(run: RawRun, holding: Bools) -> list[Hold]:
    """The same as times: one holder at a time, in order (of two at once the later begun: the lock is one thread's)."""
    import numpy as np

    spans = run.spans[holding]
    cut = partition(spans["start"].astype(np.int64), spans["end"].astype(np.int64))
    stages = spans["stage"][cut.owner].tolist()
    return [
        Hold(start, end, run.stages[stage])
        for start, end, stage in zip(cut.start.tolist(), cut.end.tolist(), stages, strict=True)
    ]


def loop_waits(run: RawRun, ledger: Ledger, loader: Bools, holding: Bools) -> LoopWaits:
    """What the parts of the loop waited for the lock.

    Args:
        run: the spans, and the switch interval.
        ledger: the steps.
        loader: bool[spans], the loader's work.
        holding: bool[spans], of `lock_held`.
    """
    import numpy as np

    spans = run.spans
    if not holding.any():
        return LoopWaits()
    mine = (spans["thread"] == ledger.thread) & ~loader & (spans["flags"] & DEVICE == 0)
    ns, through = locked_out(run, holding, mine)
    steps = np.searchsorted(ledger.start, spans["start"], side="right") - 1
    found: dict[str, Ints] = {}
    let_go: dict[int, tuple[str, int]] = {}
    for place, name in enumerate(ledger.names):
        of_part = np.flatnonzero(mine & (ns > 0) & (steps >= 0) & (spans["stage"] == _number(run, name)))
        if name == "wait" or not len(of_part):
            continue
        lost = np.bincount(steps[of_part], ns[of_part], minlength=len(ledger.start))
        let_go |= {int(steps[i]): (name, int(through[i])) for i in of_part if through[i]}
        found[name] = np.minimum(np.rint(lost).astype(np.int64), np.maximum(ledger.ns[:, place], 0))
    ran = np.bincount(spans["stage"][holding], (spans["end"] - spans["start"])[holding], minlength=len(run.stages))
    return LoopWaits(ns=found, holder=run.stages[int(ran.argmax())], let_go=let_go)


def computing(run: RawRun, loader: Bools) -> list[str]:
    """The loader's stages that use a core whenever one of their threads runs, be it for one after the other."""
    import numpy as np

    found = []
    for number in np.unique(run.spans["stage"][loader]).tolist():
        mine = np.flatnonzero(loader & (run.spans["stage"] == number))
        start, end = union(run.spans["start"][mine].astype(np.int64), run.spans["end"][mine].astype(np.int64))
        ran = int((end - start).sum())
        if ran and int(run.spans["cpu"][mine].sum()) >= COMPUTES * ran:
            found.append(run.stages[number])
    return found


def locked_out(run: RawRun, holding: Bools, waiting: Bools) -> tuple[Floats, Ints]:
    """Ns that each span waited for the lock as it ended, float64[spans]; when its holder was through, int64[spans].

    The second is 0 where the span did not wait, or the holder was made to let go.

    Args:
        run: the spans, and the switch interval.
        holding: bool[spans], those that held the lock.
        waiting: bool[spans], those that may have waited; stages that compute are left out.
    """
    import numpy as np

    spans = run.spans
    ns, through = np.zeros(len(spans)), np.zeros(len(spans), dtype=np.int64)
    since, until = union(spans["start"][holding].astype(np.int64), spans["end"][holding].astype(np.int64))
    for number in np.unique(spans["stage"][waiting]).tolist():
        name = run.stages[number]
        index = np.flatnonzero(waiting & ~holding & (spans["stage"] == number))
        start, end = spans["start"][index].astype(np.int64), spans["end"][index].astype(np.int64)
        off = np.maximum(end - start - spans["cpu"][index].astype(np.int64), 0).astype(np.float64)
        whole = int((end - start).sum())
        if name in ("step", "wait", "epoch", "queue") or not whole or off.sum() < (1 - COMPUTES) * whole:
            continue
        ns[index] = _waited(start, end, off, since, until, switch_of(run))
        last = until[np.maximum(np.searchsorted(since, end, side="left") - 1, 0)]
        through[index] = np.where((ns[index] >= _WAITED) & (last <= end), last, 0)
    return ns, through


def switch_of(run: RawRun) -> float:
    """The run's switch interval, ns."""
    return SWITCH if run.watched is None or run.watched.lock is None else run.watched.lock.switch


def _waited(start: Ints, end: Ints, off: Floats, since: Ints, until: Ints, switch: float) -> Floats:
    """Ns that spans of one stage, so long off the core, waited for a lock held in [since, until)."""
    import numpy as np

    last = np.searchsorted(since, end, side="left") - 1
    began, ended = since[np.maximum(last, 0)], until[np.maximum(last, 0)]
    near = (last >= 0) & (ended > start) & (ended > end - _HANDED_OVER)
    forced = near & (ended > end) & (end - began >= switch) & (off >= switch)
    ns = np.where(forced, switch, 0.0)
    between = near & ~forced
    alone, others = off[(last < 0) | (ended <= start)], (off - ns)[~between]
    enough = len(others) >= max(_TOLD, _USUAL * len(off))
    told = float(np.median(alone)) if len(alone) else float(np.median(others)) if enough else math.inf
    if between.any() and told <= np.median(off[between]):
        ns[between] = np.maximum(off - told, 0.0)[between]
    else:
        ns[between] = (np.minimum(np.minimum(switch, off), np.maximum(np.minimum(end, ended) - began, 0)) / 2)[between]
    return ns


def _number(run: RawRun, name: str) -> int:
    return run.stages.index(name) if name in run.stages else -1
