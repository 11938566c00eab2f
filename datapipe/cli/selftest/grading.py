"""What the profiler said beside what is true: one `Outcome` per case, one `Gate` per measure.

What enters: outcomes, whoever made them (real runs, or simulated ones). What leaves: gates, passed or missed.
Invariant: truth comes from executed runs alone; a measure that nothing was graded for is missed.
"""

from __future__ import annotations

from collections.abc import Mapping  # pydantic resolves the fields when outcomes are read back
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TIE: Final = 0.05
"""Stages whose speed-up gains within this share of the step of the best are co-bottlenecks."""
INPUT: Final = 0.05
"""Share of a step from which on it is input-bound, if no device works meanwhile (as `profiling.verdict` has it)."""
QUIET: Final = 0.2
"""Cores; where other programs use less than this the machine is the case's own."""


@final
@dataclass(frozen=True, kw_only=True)
class Asked:
    """A change, of a kind, as predicted and as executed: mean steps, ns; `low` to `high` is the 80% interval."""

    change: str
    kind: str
    predicted: float
    low: float
    high: float
    true: float
    extrapolated: bool

    @property
    def error(self) -> float:
        """|predicted ÷ true - 1|."""
        return abs(self.predicted / self.true - 1)


@final
@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One case, profiled and executed.

    Attributes:
        step_ns: mean steady step of the profiled run.
        kind: the verdict's. named: top of the critical path.
        gains: stage → ns per step saved by making it faster, as executed.
        remainder: of the ledger, as a share of the wall.
        delay: (ns per step that a part of the fault adds, as executed; ns per step charged to its stage), or None.
        asked: changes predicted and executed.
        again_ns: mean steady step of the same pipe, run once more: what differs is the noise of the truth.
        others: cores that other programs used meanwhile; None where the system does not say.
        warned: of growing memory; None: this profile does not look.
        device_ns: mean that the device took for a step, by its own clock; None: it has none.
    """

    name: str
    fault: str
    healthy: bool
    step_ns: float
    kind: str
    named: str | None
    gains: Mapping[str, float]
    remainder: float
    delay: tuple[float, float] | None = None
    asked: tuple[Asked, ...] = ()
    again_ns: float | None = None
    others: float | None = None
    warned: bool | None = None
    device_ns: float | None = None

    @property
    def kept_up(self) -> bool:
        """Whether a healthy control was one: its device the bottleneck, and at work but for less than `INPUT`."""
        idle = 0.0 if self.device_ns is None else 1 - self.device_ns / self.step_ns
        return self.healthy and self.bottlenecks <= {"forward"} and idle < INPUT

    @property
    def noise(self) -> float | None:
        """What the truth of the unchanged pipe differs by from one run to the next, as a share of it."""
        return None if self.again_ns is None else abs(self.again_ns / self.step_ns - 1)

    @property
    def quiet(self) -> bool:
        """Whether the machine was this case's own, as far as it says."""
        return self.others is None or self.others < QUIET

    @property
    def bottlenecks(self) -> set[str]:
        """The stages that are the bottleneck, as executed."""
        best = max(self.gains.values(), default=0.0)
        return {stage for stage, gain in self.gains.items() if gain >= best - TIE * self.step_ns and gain > 0}


@final
@dataclass(frozen=True, kw_only=True)
class Gate:
    """One measure: `value` of `count` graded, what it has to be, and whether it is. value None: nothing was graded."""

    measure: str
    value: float | None
    low: float
    high: float
    count: int

    @property
    def passed(self) -> bool:
        """Whether the value lies within its bounds."""
        return self.value is not None and self.low <= self.value <= self.high

    @property
    def bounds(self) -> str:
        """In words: ≤0.5%, 75% to 85%."""
        if self.high >= 1:
            return f"≥{self.low:.0%}"
        return f"≤{self.high:.1%}" if self.low <= 0 else f"{self.low:.0%} to {self.high:.0%}"


def grade(
    outcomes: Sequence[Outcome],
    overhead: Mapping[str, Sequence[float]],
    ranks: Sequence[tuple[int, int | None]] = (),
    leaks: Sequence[tuple[bool, bool | None]] = (),
) -> tuple[Gate, ...]:
    """Every gate.

    Args:
        outcomes: the cases.
        ranks: (the rank that was slow, the one that was named) of each trial.
        leaks: (whether it leaked, whether it was said to) of each trial.
        overhead: "recording" and "with trace": step time with it ÷ without it - 1, for interleaved runs.
    """
    asked = [each for outcome in outcomes for each in outcome.asked]
    errors = [each.error for each in asked]
    known = [o for o in outcomes if o.gains and o.bottlenecks]
    delays = [o.delay for o in outcomes if o.delay is not None]
    # A control that the machine made input-bound, as its executed fixes or its device's own clock say, is none.
    healthy = [o for o in outcomes if o.kept_up]
    told = [o.warned is (o.fault == "memory leak") for o in outcomes if o.warned is not None]
    told += [said is leaked for leaked, said in leaks]
    gates = [
        _gate("ledger remainder, worst", [abs(o.remainder) for o in outcomes], max, high=0.005),
        _gate("injected delay recovered (5% or 1 ms)", [recovered(*pair) for pair in delays], _mean, low=1.0),
        _gate("bottleneck named, top-1", [o.named in o.bottlenecks for o in known], _mean, low=0.95),
        _gate("healthy runs called input-bound", ["not" not in o.kind for o in healthy], _mean, high=0.01),
        _gate("what-if error, median", errors, _median, high=0.03),
        _gate("what-if error, 95th percentile", errors, lambda found: _quantile(found, 0.95), high=0.08),
        _gate(
            "80% intervals that hold the truth", [a.low <= a.true <= a.high for a in asked], _mean, low=0.75, high=0.85
        ),
        _gate("overhead, recording", list(overhead.get("recording", ())), _median, high=0.01),
        _gate("overhead, with trace", list(overhead.get("with trace", ())), _median, high=0.03),
    ]
    if told:
        gates.append(_gate("memory leaks told from none", told, _mean, low=0.95))
    if ranks:
        gates.append(_gate("slow rank named", [slow == named for slow, named in ranks], _mean, low=0.95))
    return tuple(gates)


def noise_floor(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """What the truth differs by from itself, the same pipe run twice: no prediction's error can lie below that."""
    noise = [o.noise for o in outcomes if o.noise is not None]
    return {"median": _median(noise), "p95": _quantile(noise, 0.95)} if noise else {}


def delay_error(outcomes: Sequence[Outcome]) -> float | None:
    """Median of |charged ÷ added - 1| over the delays: what the gate's millisecond may hide."""
    found = [
        abs(charged / true - 1) for true, charged in (o.delay for o in outcomes if o.delay is not None) if true > 0
    ]
    return _median(found) if found else None


def worst(outcomes: Sequence[Outcome], count: int = 10) -> list[tuple[str, Asked]]:
    """The changes that were predicted worst, (case, change), worst first."""
    asked = [(outcome.name, each) for outcome in outcomes for each in outcome.asked]
    return sorted(asked, key=lambda pair: -pair[1].error)[:count]


def recovered(true: float, charged: float) -> bool:
    """Whether the charge is within 5% or 1 ms of the delay that was added (ns)."""
    return abs(charged - true) <= max(0.05 * true, 1e6)


def _gate(
    measure: str,
    values: Sequence[float],
    of: Callable[[Sequence[float]], float],
    *,
    low: float = 0.0,
    high: float = 1.0,
) -> Gate:
    value = float(of(values)) if values else None
    # Noise may make an overhead negative: that is below any bound.
    return Gate(measure=measure, value=value, low=low if low > 0 else -1.0, high=high, count=len(values))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _median(values: Sequence[float]) -> float:
    return _quantile(values, 0.5)


def _quantile(values: Sequence[float], q: float) -> float:
    import numpy as np

    return float(np.quantile(np.asarray(values, dtype=float), q))
