"""Memory over the run, and two warnings: it leaks, or it will run out.

What enters: readings of the kernel's and torch's counters, and the limit on this process. What leaves: a `MemoryUse`.
Invariant: a warning rests on a test that noise, one jump, or a cache that fills up and stops does not pass; where there
are too few readings for the test nothing is warned of.

Only readings among steady steps count, and of these those after the first fifth: imports, worker starts, first batches
and an allocator's first rounds all grow, and a run without steps keeps nothing of any step. The slope is Theil-Sen's
(Theil 1950; Sen 1968, JASA 63: the median of all pairs' slopes, which 29% of wild points do not move), per step, over
medians of `_BUCKETS` stretches. A leak passes three tests: Mann-Kendall's (Kendall 1975: rises against falls over all
pairs, normal approximation, ties corrected) at p < 0.001; growth of at least 16 MiB and 2% of the memory; and two
halves of which neither grows, per step, less than half as fast as the other, as a filling cache's do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.process_counters import Counters

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

_BUCKETS: Final = 24
_FEWEST: Final = 16
"""Readings that count; with one a bucket the test still tells a line from noise. At two a second, 10 s of steps."""
_STEPS: Final = 50
_SECONDS: Final = 1.0
"""Steady steps, and seconds of them, that the readings must span: what fewer keep may be the last of a warm-up."""
_SETTLING: Final = 0.2
_SIGNIFICANT: Final = 0.001
_LEAST_GROWTH: Final = 16 << 20
_LEAST_SHARE: Final = 0.02
_STILL_GROWS: Final = 0.5
_NEARLY_FULL: Final = 0.9
"""Share of the limit from which a run is warned of: what the page cache gives back is not in a process's own bytes."""
_MOST_POINTS: Final = 500


@final
@dataclass(frozen=True, kw_only=True)
class MemorySeries:
    """Bytes over time, at most 500 readings, evenly thinned; a series the system does not tell is empty.

    Attributes:
        seconds: since the run began.
        resident, anonymous, shared, workers, pinned, device: see `process_counters.Counters`.
    """

    seconds: list[float]
    resident: list[int]
    anonymous: list[int]
    shared: list[int]
    workers: list[int]
    pinned: list[int]
    device: list[int]


@final
@dataclass(frozen=True, kw_only=True)
class Growth:
    """What a series did in the steady steps after the run had settled.

    Attributes:
        kind: which: "anonymous", "shared", "workers", "pinned" or "device".
        per_second: Theil-Sen slope, bytes a second.
        p: Mann-Kendall, two-sided.
        grown: bytes, slope per step times the steps.
        leak: whether it passes the three tests.
        per_step: the same, bytes a step; None in older profiles that counted none.
    """

    kind: str
    per_second: float
    p: float
    grown: float
    leak: bool
    per_step: float | None


@final
@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """Memory over the run.

    Attributes:
        series: bytes over time.
        peak: the most resident bytes, workers included.
        limit: bytes this process may use. limited_by: what sets it. Each None where it is not told.
        growth: one entry per series with enough readings in enough steady steps.
        full_in: seconds from the run's end until memory is used up if it goes on growing so; None: it does not.
        device_free: least bytes that were free on the device.
        pressure: share of the wall in which some task of the machine waited for memory (PSI "some"); None: not told.
        warnings: what to tell the user, a line each.
    """

    series: MemorySeries
    peak: int
    limit: int | None
    limited_by: str | None
    growth: tuple[Growth, ...]
    full_in: float | None
    device_free: int | None
    pressure: float | None
    warnings: tuple[str, ...]


def memory_use(
    counters: Sequence[Counters], limit: tuple[int, str] | None, *, began: int, steps: Sequence[int] | Ints,
    pressure: float | None = None,
) -> MemoryUse | None:  # fmt: skip
    """Memory over the run; None where the system does not tell.

    Args:
        counters: readings in order of time.
        limit: bytes this process may use, and what limits it.
        began: ns, when the run began.
        steps: when each steady step ended, ns, in order.
        pressure: PSI of memory, a share.
    """
    told = [one for one in counters if one.resident is not None]
    if not told:
        return None
    seconds = [(one.at - began) / 1e9 for one in told]
    growth = []
    for kind in ("anonymous", "shared", "workers", "pinned", "device"):
        found = _growth(kind, [one.at for one in told], _values(told, kind), steps)
        if found is not None:
            growth.append(found)
    held = [(one.resident or 0) + one.workers for one in told]
    full_in = _full_in(growth, held[-1], limit)
    free = [one.device_free for one in told if one.device_free is not None]
    thin = max(1, -(-len(told) // _MOST_POINTS))
    some = told[::thin]
    series = MemorySeries(
        seconds=[round(s, 3) for s in seconds[::thin]],
        **{k: _values(some, k) for k in ("resident", "anonymous", "shared", "workers", "pinned", "device")},
    )
    return MemoryUse(
        series=series, peak=max(held), limit=limit[0] if limit else None, limited_by=limit[1] if limit else None,
        growth=tuple(growth), full_in=full_in, device_free=min(free, default=None), pressure=pressure,
        warnings=_warnings(growth, max(held), limit, full_in, min(free, default=None)),
    )  # fmt: skip


def _values(counters: Sequence[Counters], kind: str) -> list[int]:
    values = [getattr(one, kind) for one in counters]
    # Torch's counters begin when the run first uses a device: nothing was held before.
    return [] if all(value is None for value in values) else [int(value or 0) for value in values]


def _growth(kind: str, at: Sequence[int], values: Sequence[int], steps: Sequence[int] | Ints) -> Growth | None:
    import numpy as np

    if len(steps) < _STEPS or not any(values):
        return None
    ends, when = np.asarray(steps, dtype=np.int64), np.asarray(at, dtype=np.int64)
    settled = ends[0] + _SETTLING * (ends[-1] - ends[0])
    chosen = (when >= settled) & (when <= ends[-1])
    t, y = (when[chosen] - ends[0]) / 1e9, np.asarray(values, dtype=np.float64)[chosen]
    made = np.searchsorted(ends, when[chosen], side="right").astype(np.float64)
    if len(t) < _FEWEST or t[-1] - t[0] < _SECONDS or made[-1] - made[0] < _STEPS:
        return None
    parts = [part for part in np.array_split(np.arange(len(t)), min(_BUCKETS, len(t))) if len(part)]
    held = np.array([float(np.median(y[part])) for part in parts])
    after, seconds = (np.array([float(of[part].mean()) for part in parts]) for of in (made, t))
    slope, p, half = theil_sen(after, held), mann_kendall(held), len(parts) // 2
    slower, faster = sorted((theil_sen(after[:half], held[:half]), theil_sen(after[half:], held[half:])))
    grown = slope * float(made[-1] - made[0])
    leak = (
        p < _SIGNIFICANT
        and grown >= max(_LEAST_GROWTH, _LEAST_SHARE * float(np.median(held)))
        and slower >= _STILL_GROWS * faster
    )
    return Growth(
        kind=kind, per_second=theil_sen(seconds, held), p=p, grown=grown, leak=bool(leak), per_step=slope,
    )  # fmt: skip


def theil_sen(x: Floats, y: Floats) -> float:
    """The median of the slopes of all pairs of points (x rising)."""
    import numpy as np

    i, j = np.triu_indices(len(x), 1)
    run = x[j] - x[i]
    return float(np.median((y[j] - y[i])[run > 0] / run[run > 0])) if (run > 0).any() else 0.0


def mann_kendall(y: Floats) -> float:
    """Two-sided p of no trend in a series of n values, by the normal approximation (n ≥ 8), ties corrected."""
    import numpy as np

    n = len(y)
    i, j = np.triu_indices(n, 1)
    score = float(np.sign(y[j] - y[i]).sum())
    _, ties = np.unique(y, return_counts=True)
    spread = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    if spread <= 0 or score == 0:
        return 1.0
    return math.erfc((abs(score) - 1) / math.sqrt(2 * spread))


def _full_in(growth: Sequence[Growth], held: int, limit: tuple[int, str] | None) -> float | None:
    """Host memory alone: page-locked and shared bytes are of it already, so only the fastest of them counts."""
    rates = [one.per_second for one in growth if one.leak and one.kind != "device"]
    return max(0.0, (limit[0] - held) / max(rates)) if rates and limit is not None else None


def _warnings(
    growth: Sequence[Growth], peak: int, limit: tuple[int, str] | None, full_in: float | None, free: int | None
) -> tuple[str, ...]:
    lines = []
    for one in growth:
        if one.leak:
            where = "the workers' memory" if one.kind == "workers" else f"{one.kind} memory"
            per_step = "" if one.per_step is None else f", {size_text(one.per_step)} a step"
            lines.append(
                f"{where.capitalize()} grows steadily: {size_text(one.per_second)} a second{per_step};"
                f" something keeps what each step makes (Mann-Kendall p = {one.p:.1g})."
            )
    if limit is not None and peak >= _NEARLY_FULL * limit[0]:
        lines.append(f"Memory is nearly used up: {size_text(peak)} of {size_text(limit[0])} that {limit[1]} allows.")
    elif limit is not None and full_in is not None and full_in < 24 * 3600:
        lines.append(f"At this rate {limit[1]}'s {size_text(limit[0])} are used up in {full_in / 60:,.0f} min.")
    if free is not None and free < 256 << 20:
        lines.append(f"Only {size_text(free)} were free on the device at the worst moment.")
    return tuple(lines)


def size_text(count: float) -> str:
    """A size: '3.1 MiB'."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
