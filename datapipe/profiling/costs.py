"""What recorded work cost by itself: CPU time and waiting, without waiting for a core or for the interpreter lock.

What enters: spans, and how many cores there were. What leaves: a `Segment` per span, and the stages that hold the lock.
Invariant: `cpu` is as recorded; `idle` is never more than the rest of the wall.

Time that a computing stage spent off the core while more threads computed than there are cores is the run's own
contention, which a replay makes anew; what remains (other programs, page faults) stays with the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.events import DEVICE, HIT, MISS
from datapipe.profiling.lock_holders import MOSTLY, lock_holders
from datapipe.profiling.lock_waits import COMPUTES, locked_out, switch_of
from datapipe.profiling.lock_waits import computing as lock_computing
from datapipe.profiling.waits import QUEUE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.analysis import RawRun

    Floats = npt.NDArray[np.float64]

_SEEN: Final = 0.1
"""A stage that ran for less of the run than this changes little, whether it holds the lock or not."""
_PYTHON: Final = (QUEUE, "prepare", "gather", "collate")
"""What a loader does in Python between two pieces of the user's work."""
_PROBES: Final = 8
"""Probes from which they are believed where they do not speak of a stage: two threads that get no more than one may
as well have met other programs on their cores."""
_SHARED: Final = 1.2
"""Two threads that compute side by side get twice what one gets; who gets less than this much more shares a lock."""


@final
@dataclass(frozen=True, kw_only=True)
class Segment:
    """A piece of work: `cpu` ns on a core and `idle` ns off it; `hit` (HIT, MISS or 0) and `nbytes` as recorded."""

    stage: str
    cpu: float
    idle: float
    hit: int = 0
    nbytes: int = 0


@final
class Costs:
    """What spans cost apart from waiting for a core or for the interpreter lock.

    Args:
        run: the spans.
        consumer: the loop's thread.
        order: places of the loader's spans.
        cores: CPUs the run could use.

    Attributes:
        serial: stages that hold the interpreter lock, and for which share of their time: it was found taken while they
            ran (`lock_holders`) or, where nothing asked for it, two threads together get no more CPU time than one.
        unsure: stages that compute, for a tenth of the run or more, and neither shows.
        unseen: ns of CPU time that the process used outside all spans; 0 where nothing counted it.
        switch: ns after which a thread that holds the lock gives it to another, where some stage holds it; else 0.
    """

    def __init__(self, run: RawRun, consumer: int, order: list[int], cores: float) -> None:
        import numpy as np

        spans = run.spans
        self._run = run
        self._number = {name: i for i, name in enumerate(run.stages)}
        self.share: dict[str, float] = {}
        computing = np.zeros(len(spans), dtype=bool)
        inside = np.zeros(len(spans), dtype=bool)
        inside[order] = True
        host = spans["flags"] & DEVICE == 0
        whole = [i for i, name in enumerate(run.stages) if name in ("step", "wait", "epoch", "queue")]
        serial, unsure = set(), set()
        told = lock_holders(run, lock_computing(run, inside))
        probed = run.watched is not None and len(run.watched.probes) >= _PROBES
        for number in np.unique(spans["stage"]).tolist():
            of_stage = spans["stage"] == number
            mine, name = spans[of_stage], run.stages[number]
            wall = int((mine["end"] - mine["start"]).sum())
            self.share[name] = min(1.0, int(mine["cpu"].sum()) / wall) if wall else 0.0
            if told.get(name):
                serial.add(name)
            if number in whole or self.share[name] < COMPUTES:
                continue
            computing |= of_stage & host & (inside | (spans["thread"] == consumer))
            loaders = spans[of_stage & inside]
            if not len(loaders) or name in told:
                continue
            gain = _gain_together(loaders)
            if gain is not None and (gain >= _SHARED or cores < 2):
                continue
            if gain is not None and not probed:
                serial.add(name)
            elif gain is not None or wall >= _SEEN * (run.ended - run.began):
                unsure.add(name)
        if serial:  # short Python work waits for the lock too, though too short for a probe to meet
            serial |= {name for name in _PYTHON if told.get(name, 1.0)}
        self.serial = {name: told.get(name, 1.0) for name in serial}
        self.unsure = frozenset(unsure - serial)
        self.switch = switch_of(run) if self.serial else 0.0
        # Those that probes met: a short one that begins as a holder ends would hide what was waited for.
        held = [name for name, share in told.items() if share > MOSTLY]
        holding = inside & np.isin(spans["stage"], [self._number[name] for name in held])
        holding &= spans["thread"] != consumer
        waiting = host & (inside | (spans["thread"] == consumer))
        self._locked_out = locked_out(run, holding, waiting)[0] if holding.any() else np.zeros(len(spans))
        loops = np.flatnonzero((spans["thread"] == consumer) & (self._locked_out > 0))
        self._loops = loops[np.argsort(spans["end"][loops], kind="stable")]
        self._contended = _contention(spans[computing], cores)
        self.unseen = max(0.0, _process_cpu(run) - float(spans["cpu"][host].sum()))

    def of(self, index: int) -> Segment:
        """A loader's span as work."""
        span = self._run.spans[index]
        stage, start, end = self._run.stages[span["stage"]], int(span["start"]), int(span["end"])
        cpu = min(int(span["cpu"]), end - start)
        return Segment(
            stage=stage, cpu=float(cpu), idle=self._idle(stage, start, end, end - start - cpu, index),
            hit=int(span["flags"]) & (HIT | MISS), nbytes=int(span["bytes"]),
        )  # fmt: skip

    def own(self, name: str, ns: float, start: int, end: int) -> Segment:
        """A part of the loop's own step, in [start, end), as work; what no phase names is taken to compute."""
        share = self.share.get(name, 1.0)
        # Over the whole interval: this part's share of the contention.
        spread = ns / (end - start) if end > start else 0.0
        idle = ns * (1 - share)
        lost = self._lost(start, end) * spread if share >= COMPUTES else self._lock_wait(name, start, end)
        return Segment(stage=name, cpu=ns * share, idle=max(0.0, idle - lost))

    def _lock_wait(self, name: str, start: int, end: int) -> float:
        """What a part of the loop waited for the lock within [start, end], ns."""
        import numpy as np

        ends = self._run.spans["end"][self._loops]
        among = self._loops[np.searchsorted(ends, start, side="right") : np.searchsorted(ends, end, side="right")]
        mine = among[self._run.spans["stage"][among] == self._number.get(name, -1)]
        return float(self._locked_out[mine].sum())

    def _idle(self, stage: str, start: int, end: int, off: float, index: int) -> float:
        if self.serial.get(stage, 0.0) > MOSTLY:
            return 0.0
        lost = self._lost(start, end) if self.share[stage] >= COMPUTES else float(self._locked_out[index])
        return max(0.0, off - lost)

    def _lost(self, start: int, end: int) -> float:
        import numpy as np

        times, lost = self._contended
        return float(np.interp(end, times, lost) - np.interp(start, times, lost)) if len(times) else 0.0


def _process_cpu(run: RawRun) -> float:
    """Ns of CPU time of the run's process, without the profile's own threads; 0 where nothing counted it."""
    told = [] if run.watched is None else [one.cpu for one in run.watched.counters if one.cpu is not None]
    return float(told[-1] - told[0] - run.background_cpu) if len(told) > 1 else 0.0


def _contention(spans: npt.NDArray[np.void], cores: float) -> tuple[Floats, Floats]:
    """Ns per thread lost until a time, as (times, lost), because more computed than there were cores."""
    import numpy as np

    edges, depth, _ = _profile(spans)
    share = np.where(depth > cores, 1 - cores / np.maximum(depth, 1), 0.0)
    return edges.astype(np.float64), np.append(0.0, np.cumsum(share * np.diff(edges))) if len(edges) else np.empty(0)


def _profile(spans: npt.NDArray[np.void]) -> tuple[Floats, Floats, Floats]:
    """Edges of spans in order of time, [2n]; how many are open between them, and their CPU ns per ns, [2n - 1]."""
    import numpy as np

    wall = (spans["end"] - spans["start"]).astype(float)
    rate = np.where(wall > 0, spans["cpu"] / np.maximum(wall, 1), 0.0)
    edges = np.concatenate([spans["start"], spans["end"]]).astype(np.float64)
    order = np.argsort(edges, kind="stable")
    depth = np.cumsum(np.concatenate([np.ones(len(spans)), -np.ones(len(spans))])[order])[:-1]
    rates = np.cumsum(np.concatenate([rate, -rate])[order])[:-1]
    return edges[order], depth, rates


def _gain_together(spans: npt.NDArray[np.void]) -> float | None:
    """CPU time of a stage while it ran twice at once or more, in what one alone got; None: it hardly ever did."""
    import numpy as np

    edges, depth, rates = _profile(spans)
    length = np.diff(edges)
    together, alone = depth >= 2, depth == 1
    if length[together].sum() <= 0.05 * (length * depth).sum():
        return None
    one = float((rates * length)[alone].sum() / length[alone].sum()) if length[alone].sum() > 0 else 1.0
    # Other programs take from both: where one thread alone had half a core, two are not to be measured by a whole one.
    return float((rates * length)[together].sum() / length[together].sum()) / min(1.0, max(one, 0.1))
