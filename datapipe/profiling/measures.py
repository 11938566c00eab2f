"""What watching the machine adds to a summary: input and output, memory, the lock, CPU, and the profile's own cost.

What enters: a `RawRun` and its ledger. What leaves: the summary's fields `io`, `memory_use`, `lock`, `cpu` and
`overhead`, and a line for each that a person should hear of.
Invariant: a run that was not watched (an older file, a system without `/proc`) has None, and says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from datapipe.profiling.cpu_use import CpuUse, cpu_use
from datapipe.profiling.io_truth import IoTruth, io_truth, stalled_share
from datapipe.profiling.memory_use import MemoryUse, memory_use, size_text
from datapipe.profiling.overhead import Overhead, overhead

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.profiling.analysis import RawRun
    from datapipe.profiling.ledger import Ledger
    from datapipe.profiling.lock_probe import LockDelay
    from datapipe.profiling.summary import Summary


@final
@dataclass(frozen=True, kw_only=True)
class Measures:
    """The summary's fields of the same names."""

    io: IoTruth | None
    memory_use: MemoryUse | None
    lock: LockDelay | None
    cpu: CpuUse | None
    overhead: Overhead | None


def measure(
    run: RawRun, ledger: Ledger, recorded: Mapping[int, int], *, steps: int, lock: LockDelay | None = None
) -> Measures:
    """What was measured beside the steps.

    Args:
        run: the reads among its spans, and what was watched.
        ledger: the steps.
        recorded: thread → spans.
        steps: of the run.
        lock: of the steady steps (`lock_contention`).
    """
    seen = run.watched
    counters = () if seen is None else seen.counters
    fetch = run.stages.index("fetch") if "fetch" in run.stages else -1
    usable = run.environment.get("cpus usable") or run.environment.get("cpus") or 0
    cost = None
    if run.ns_per_span > 0:
        cost = overhead(
            recorded, consumer=ledger.thread, ns_per_span=run.ns_per_span, watching=run.background_cpu,
            wall=run.wall, steps=steps,
        )  # fmt: skip
    return Measures(
        io=io_truth(run.spans, fetch, counters, _epochs(run, ledger)),
        memory_use=memory_use(
            counters, None if seen is None else seen.limit, began=run.began,
            steps=ledger.end[ledger.steady], pressure=stalled_share(counters, 2),
        ),
        lock=lock,
        cpu=cpu_use(counters, usable=float(usable) if isinstance(usable, int | float) else 0.0),
        overhead=cost,
    )  # fmt: skip


def _epochs(run: RawRun, ledger: Ledger) -> list[tuple[int, int]]:
    """(start, end) of each epoch, one after the other; the first from the run's start: what is read ahead is its."""
    import numpy as np

    if not len(ledger.start):
        return []
    first = np.flatnonzero(np.diff(ledger.epoch, prepend=-1))
    starts = [run.began, *ledger.start[first[1:]].tolist()]
    return list(zip(starts, [*starts[1:], run.ended], strict=True))


def measured_lines(summary: Summary) -> tuple[tuple[str, bool], ...]:
    """(line, whether it is a warning): bytes by source, memory, the lock, CPU and overhead, where measured."""
    lines: list[tuple[str, bool]] = []
    if summary.io is not None:
        lines.append((_io_line(summary.io), False))
    if summary.memory_use is not None:
        used = summary.memory_use
        limit = "" if used.limit is None else f" of {size_text(used.limit)} that {used.limited_by} allows"
        lines.append((f"Memory: at most {size_text(used.peak)}{limit}.", False))
        lines += [(warning, True) for warning in used.warnings]
    for part in (summary.io, summary.lock, summary.cpu):
        if part is not None and part.warning is not None:
            lines.append((part.warning, True))
    if summary.overhead is not None:
        cost = summary.overhead
        lines.append((f"Overhead: {cost}; what misses the caches because of it is not priced.", False))
        if cost.warning is not None:
            lines.append((cost.warning, True))
    return tuple(lines)


def _io_line(io: IoTruth) -> str:
    total = io.total
    if not io.seen:
        return f"Bytes: {size_text(total.disk)} from disks, at most {size_text(total.page_cache)} from the page cache."
    named = {"network": total.network, "disk": total.disk, "page cache": total.page_cache}
    shown = ", ".join(f"{size_text(count)} from the {name}" for name, count in named.items() if count) or "none"
    own = f" ({size_text(total.cache)} of it through datapipe's cache)" if total.cache else ""
    states = [epoch.state for epoch in io.epochs[:2]]
    told = f" First epoch {states[0]}, second {states[1]}." if len(states) == 2 else ""
    return f"Bytes: {shown}{own}; {total.state}.{told}"
