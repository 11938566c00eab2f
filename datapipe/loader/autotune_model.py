"""What other numbers of threads, of batches ahead, of bytes read ahead would do: a model of the loader, nothing else.

What enters: what a loader measured of itself. What leaves: a prediction, or one change worth trying. Invariant: pure:
the same numbers give the same answer; nothing is applied here.

The model is that of operational analysis (Denning and Buzen, "The operational analysis of queueing network models",
ACM Computing Surveys 10(3), 1978): what limits throughput is the resource with the largest demand per batch. Per batch
there are three, the consumer (`own`), the threads (`work`, shared by as many as there are, and by the consumer while it
would wait) and the CPUs (`cpu` of both together):

    ns per batch = max(own, work/n <= own ? own : (work + own)/(n + 1), (cpu + own_cpu)/cpus)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datapipe.loader.autotune_meter import Sample

Knob = Literal["num_threads", "prefetch", "memory_budget"]

GAIN: Final = 0.10
"""Predicted gain, below which no more is asked of the machine: half of it is lost in the noise of a busy one."""
STALL: Final = 0.05
"""Part of the time that the consumer may wait before anything is done about it; below `CALM` it is at ease."""
CALM: Final = 0.02
SLACK: Final = 1.25
"""Fewer threads must be enough for this much more work."""
MOST_THREADS: Final = 32
MOST_PREFETCH: Final = 64
LEAST_BUDGET: Final = 64 << 20
_WORTH: Final = 1 << 20
"""Bytes that a shorter queue must give back to be worth a change."""


@final
@dataclass(frozen=True, kw_only=True)
class Knobs:
    """The numbers that are tuned; `memory_budget` in bytes: how much of it reading ahead may fill."""

    num_threads: int
    prefetch: int
    memory_budget: int


@final
@dataclass(frozen=True, kw_only=True)
class Limits:
    """What may be taken: CPUs, and bytes. tunable: the knobs that the user left to the loader."""

    cpus: float
    memory: int
    tunable: frozenset[Knob]


@final
@dataclass(frozen=True, kw_only=True)
class Demand:
    """Times per batch (ns), over some rounds.

    Attributes:
        wall: between two batches. own, own_cpu: the consumer's part. stalled: what it waited or did in the threads'
            place; waited: of that, waited. work, cpu: what threads can do.
        the rest: as in `Sample`, the worst of the rounds.
    """

    wall: float
    own: float
    own_cpu: float
    stalled: float
    waited: float
    work: float
    cpu: float
    least_ready: int
    full: bool
    unaffordable: bool
    least_ahead: int
    batch_bytes: int
    cheap: bool


@final
@dataclass(frozen=True, kw_only=True)
class Proposal:
    """One change. predicted: of the time per batch, as a fraction (-0.3: 30% less)."""

    knob: Knob
    to: int
    predicted: float
    why: str


def demand(samples: Sequence[Sample], loads_per_batch: float, load_ns: float, load_cpu: float) -> Demand:
    """What the rounds say; the cost of a load, and how many a batch takes, are known over longer than these."""
    batches = sum(sample.batches for sample in samples)
    made = sum(sample.made for sample in samples) / batches
    cheap = samples[-1].cheap
    waited = sum(sample.waited for sample in samples) / batches
    others = 0.0 if cheap else made  # dear batches that the consumer made are the threads' work
    walls = sorted(sample.wall / sample.batches for sample in samples)
    return Demand(
        wall=walls[len(walls) // 2],
        own=sum(sample.own for sample in samples) / batches + (made if cheap else 0.0),
        own_cpu=sum(sample.own_cpu for sample in samples) / batches + (made if cheap else 0.0),
        stalled=waited + sum(sample.helped for sample in samples) / batches + others,
        waited=waited,
        work=sum(sample.other_ns for sample in samples) / batches + others + loads_per_batch * load_ns,
        cpu=sum(sample.other_cpu for sample in samples) / batches + others + loads_per_batch * load_cpu,
        least_ready=min(sample.least_ready for sample in samples),
        full=any(sample.full for sample in samples),
        unaffordable=any(sample.unaffordable for sample in samples),
        least_ahead=min(sample.least_ahead for sample in samples),
        batch_bytes=max(sample.batch_bytes for sample in samples),
        cheap=cheap,
    )


def predict(needs: Demand, threads: int, cpus: float, slack: float = 1.0) -> float:
    """Nanoseconds per batch with so many threads (and `slack` times the work)."""
    work, cpu = needs.work * slack, needs.cpu * slack
    kept_up = needs.own if work <= threads * needs.own else (work + needs.own) / (threads + 1)
    return max(needs.own, kept_up, (cpu + needs.own_cpu) / cpus, 1.0)


def propose(needs: Demand, knobs: Knobs, limits: Limits, allowed: Callable[[Knob, int], bool]) -> Proposal | None:
    """The change most worth trying, or None.

    Args:
        allowed: whether a knob may go up (1) or down (-1) now.
    """
    for change in (_more_threads, _more_read_ahead, _more_prefetch, _fewer_threads, _less_prefetch, _less_read_ahead):
        found = change(needs, knobs, limits)
        if found is not None and found.knob in limits.tunable:
            before: int = getattr(knobs, found.knob)
            if allowed(found.knob, 1 if found.to > before else -1):
                return found
    return None


def changed(knobs: Knobs, knob: Knob, to: int) -> Knobs:
    """The same with one number changed."""
    return replace(knobs, **{knob: to})


def _stall(needs: Demand) -> float:
    return needs.stalled / max(needs.wall, 1.0)


def _more_threads(needs: Demand, knobs: Knobs, limits: Limits) -> Proposal | None:
    now = knobs.num_threads
    if _stall(needs) <= STALL or now >= MOST_THREADS:
        return None
    at = {n: predict(needs, n, limits.cpus) for n in range(now, MOST_THREADS + 1)}
    enough = min(n for n in at if at[n] <= 1.05 * min(at.values()))
    to = min(enough, 2 * now)
    gain = 1 - at[to] / at[now]
    if to <= now or gain < GAIN:
        return None
    why = f"the consumer waits {_stall(needs):.0%} of the time and threads have {needs.work / 1e6:.2f} ms a batch to do"
    return Proposal(knob="num_threads", to=to, predicted=-gain, why=why)


def _fewer_threads(needs: Demand, knobs: Knobs, limits: Limits) -> Proposal | None:
    now = knobs.num_threads
    here = predict(needs, now, limits.cpus)
    crowded = now > limits.cpus and here > 1.02 * needs.own
    if not crowded and _stall(needs) > CALM:
        return None
    fits = [n for n in range(1, now) if predict(needs, n, limits.cpus, SLACK) <= 1.02 * max(here, needs.own)]
    if crowded:  # the CPUs are the limit, and more threads than CPUs are no help
        fits = [n for n in range(1, now) if predict(needs, n, limits.cpus) <= 1.02 * here]
    if not fits:
        return None
    to = max(fits[0], now // 2)
    why = f"{to} can do {needs.work / 1e6:.2f} ms of work a batch in the {here / 1e6:.2f} ms that a batch takes"
    return Proposal(knob="num_threads", to=to, predicted=0.0, why=why)


def _more_prefetch(needs: Demand, knobs: Knobs, limits: Limits) -> Proposal | None:
    """Threads keep up on the average and the consumer waits all the same: the queue evens out too little."""
    most = min(MOST_PREFETCH, limits.memory // 4 // max(1, needs.batch_bytes))
    waits = needs.waited / max(needs.wall, 1.0)
    keeps_up = predict(needs, knobs.num_threads, limits.cpus, SLACK) <= 1.02 * needs.own
    to = min(most, 2 * knobs.prefetch)
    if needs.cheap or not needs.full or waits <= STALL or not keeps_up or to <= knobs.prefetch:
        return None
    why = f"the consumer waits {waits:.0%} of the time although threads stand before a full queue at times"
    return Proposal(knob="prefetch", to=to, predicted=-waits / 2, why=why)


def _less_prefetch(needs: Demand, knobs: Knobs, limits: Limits) -> Proposal | None:
    del limits
    to = max(2, knobs.prefetch // 2)
    freed = (knobs.prefetch - to) * needs.batch_bytes
    if needs.cheap or _stall(needs) > CALM or needs.least_ready * 2 < knobs.prefetch or freed < _WORTH:
        return None
    why = f"{needs.least_ready} batches lay ready at the worst moment; gives back {freed / 1e6:.0f} MB"
    return Proposal(knob="prefetch", to=to, predicted=0.0, why=why)


def _more_read_ahead(needs: Demand, knobs: Knobs, limits: Limits) -> Proposal | None:
    to = min(limits.memory, 2 * knobs.memory_budget)
    if _stall(needs) <= STALL or not needs.unaffordable or to <= knobs.memory_budget:
        return None
    why = f"the consumer waits {_stall(needs):.0%} of the time and there was no room for the next read"
    return Proposal(knob="memory_budget", to=to, predicted=-_stall(needs) / 2, why=why)


def _less_read_ahead(needs: Demand, knobs: Knobs, limits: Limits) -> Proposal | None:
    del limits
    now = knobs.memory_budget
    to = max(min(LEAST_BUDGET, now), now * 3 // 4)
    if _stall(needs) > CALM or needs.least_ahead >= 1 << 62 or needs.least_ahead * 2 < now or to > 0.9 * now:
        return None
    why = f"{needs.least_ahead / 1e6:.0f} MB lay read ahead at the worst moment"
    return Proposal(knob="memory_budget", to=to, predicted=0.0, why=why)
