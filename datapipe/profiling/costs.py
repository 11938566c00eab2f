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

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.analysis import RawRun

    Floats = npt.NDArray[np.float64]

_COMPUTES: Final = 0.25
"""A stage on the CPU for less of its time than this waits for something else than a core."""
_SEEN: Final = 0.1
"""A stage that ran for less of the run than this is too little for a probe to see."""
_PROBES: Final = 8
"""Measured: the lock is found taken at 0.9 of the probes where a stage held it for 0.9 of the run, at 0.1 where
one computed as long without it; eight tell these apart (binomial, p < 0.001)."""
_HANDED_OVER: Final = 300_000
"""Ns within which who waited for the lock goes on after it was let go."""
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
        serial: stages that hold the interpreter lock: two threads together get no more CPU time than one or, where
            they hardly ever ran so, a probe found the lock taken for as long as they ran.
        unsure: stages that compute, and neither shows.
        switch: ns after which a thread that holds the lock gives it to another, where some stage holds it; else 0.
    """

    def __init__(self, run: RawRun, consumer: int, order: list[int], cores: float) -> None:
        import numpy as np

        spans = run.spans
        self._run = run
        self.share: dict[str, float] = {}
        computing = np.zeros(len(spans), dtype=bool)
        inside = np.zeros(len(spans), dtype=bool)
        inside[order] = True
        host = spans["flags"] & DEVICE == 0
        whole = [i for i, name in enumerate(run.stages) if name in ("step", "wait", "epoch", "queue")]
        serial, unsure = set(), set()
        for number in np.unique(spans["stage"]).tolist():
            of_stage = spans["stage"] == number
            mine, name = spans[of_stage], run.stages[number]
            wall = int((mine["end"] - mine["start"]).sum())
            self.share[name] = min(1.0, int(mine["cpu"].sum()) / wall) if wall else 0.0
            if number in whole or self.share[name] < _COMPUTES:
                continue
            computing |= of_stage & host & (inside | (spans["thread"] == consumer))
            loaders = spans[of_stage & inside]
            if not len(loaders):
                continue
            gain = _gain_together(loaders)
            if gain is None:
                unsure.add(name)
            elif gain < _SHARED and cores >= 2:
                serial.add(name)
        held = self._held(unsure, inside)
        self.serial, self.unsure = frozenset(serial | (held or set())), frozenset(unsure - (held or set()))
        if held is not None and not held:
            self.unsure = frozenset()
        lock = None if run.watched is None else run.watched.lock
        self.switch = (5e6 if lock is None else lock.switch) if self.serial else 0.0
        numbers = [run.stages.index(name) for name in self.serial]
        holders = spans[inside & np.isin(spans["stage"], numbers) & (spans["thread"] != consumer)]
        self._taken_from = np.sort(holders["start"])
        self._taken_to = holders["end"][np.argsort(holders["start"], kind="stable")]
        self._contended = _contention(spans[computing], cores)

    def _held(self, unsure: set[str], inside: npt.NDArray[np.bool_]) -> set[str] | None:
        """Of the unsure stages those that hold the lock, as a probe found it taken; None: it does not say.

        The one that computes most is meant; what others add is too little to be seen.
        """
        run = self._run
        lock = None if run.watched is None else run.watched.lock
        if not unsure or lock is None or lock.probes < _PROBES:
            return None
        spent, ran = {}, {}
        for name in unsure:
            mine = run.spans[inside & (run.spans["stage"] == run.stages.index(name))]
            spent[name] = int(mine["cpu"].sum())
            ran[name] = int((mine["end"] - mine["start"]).sum())
        most = max(spent, key=lambda name: spent[name])
        share = min(1.0, ran[most] / max(1, run.ended - run.began))
        if share < _SEEN:
            return None
        return {most} if lock.taken >= share / 2 else set() if lock.taken <= share / 4 else None

    def of(self, index: int) -> Segment:
        """A loader's span as work."""
        span = self._run.spans[index]
        stage, start, end = self._run.stages[span["stage"]], int(span["start"]), int(span["end"])
        cpu = min(int(span["cpu"]), end - start)
        return Segment(
            stage=stage, cpu=float(cpu), idle=self._idle(stage, start, end, end - start - cpu),
            hit=int(span["flags"]) & (HIT | MISS), nbytes=int(span["bytes"]),
        )  # fmt: skip

    def own(self, name: str, ns: float, start: int, end: int) -> Segment:
        """A part of the loop's own step, in [start, end), as work; what no phase names is taken to compute."""
        share = self.share.get(name, 1.0)
        # Over the whole interval: this part's share of the contention.
        spread = ns / (end - start) if end > start else 0.0
        idle = ns * (1 - share)
        lost = self._lost(start, end) if share >= _COMPUTES else self._locked_out(end)
        return Segment(stage=name, cpu=ns * share, idle=max(0.0, idle - lost * spread))

    def _locked_out(self, end: int) -> float:
        """How long a wait that ended at a time waited for the interpreter lock at its end, ns.

        Where a holder ran on, it had to give the lock up, after the switch interval. Where it had just ended, the wait
        was somewhere between nothing and that: half of it.
        """
        import numpy as np

        i = int(np.searchsorted(self._taken_from, end)) - 1
        if i < 0:
            return 0.0
        begin, until = int(self._taken_from[i]), int(self._taken_to[i])
        most = min(self.switch, float(end - begin))
        if until > end:
            return most if most == self.switch else 0.0
        return most / 2 if end - until < _HANDED_OVER else 0.0

    def _idle(self, stage: str, start: int, end: int, off: float) -> float:
        if stage in self.serial:
            return 0.0
        return max(0.0, off - self._lost(start, end)) if self.share[stage] >= _COMPUTES else float(off)

    def _lost(self, start: int, end: int) -> float:
        import numpy as np

        times, lost = self._contended
        return float(np.interp(end, times, lost) - np.interp(start, times, lost)) if len(times) else 0.0


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
    if length[together].sum() < 0.05 * (length * depth).sum():
        return None
    one = float((rates * length)[alone].sum() / length[alone].sum()) if length[alone].sum() > 0 else 1.0
    # Other programs take from both: where one thread alone had half a core, two are not to be measured by a whole one.
    return float((rates * length)[together].sum() / length[together].sum()) / min(1.0, max(one, 0.1))
