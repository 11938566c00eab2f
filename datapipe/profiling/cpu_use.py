"""CPU against wall: how many cores the run used, and whether it had to wait for one.

What enters: readings of the kernel's counters. What leaves: a `CpuUse`; the CPU time of each stage against its
wall time is in `Summary.stages` (`StageRow.cpu`).
Invariant: shares are of the time between the first and the last reading.

A host whose cores are mostly in use launches kernels late ("noisy neighbour": SPDL's guide keeps the host under 40%).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.profiling.io_truth import stalled_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datapipe.profiling.process_counters import Counters

FULL: Final = 0.9
"""Share of the cores in use from which a run is short of them."""
KEPT_WAITING: Final = 0.05
"""Share of the time without a core from which it is told: as much of a step that waits for data (`verdict`)."""
_OTHERS: Final = 0.25
"""Cores that other processes use, from which a wait for a core is theirs and not of the run's own threads."""


@final
@dataclass(frozen=True, kw_only=True)
class CpuUse:
    """Cores that the run used.

    Attributes:
        used: cores in use on average, child processes included.
        usable: cores that the run may use.
        preempted: times a second that a thread of this process was put aside although it had work.
        pressure: share of the wall in which some task of the machine waited for a core (PSI "some"); None: not told.
        queued: share of the wall, at least, in which a thread of the run was ready and had no core; None: not told.
        others: cores that the machine's other processes used, on average; None: not told.
    """

    used: float
    usable: float
    preempted: float | None
    pressure: float | None
    queued: float | None = None
    others: float | None = None

    @property
    def warning(self) -> str | None:
        """What to tell the user, or None."""
        if self.usable > 0 and self.used >= FULL * self.usable:
            return f"The CPUs are full: {self.used:.1f} of {self.usable:.0f} cores in use; more threads add no speed."
        if (self.queued or 0.0) >= KEPT_WAITING and (self.others or 0.0) >= _OTHERS:
            return (
                f"Other processes kept {self.others:.1f} cores busy: for {self.queued:.0%} of the time or more a thread"
                " of this run was ready and had no core; its figures and predictions are of a machine as busy as that."
            )
        return None


def cpu_use(counters: Sequence[Counters], *, usable: float) -> CpuUse | None:
    """Cores that the run used; None where the system does not tell.

    Args:
        counters: readings in order of time.
        usable: cores that the run may use.
    """
    told = [one for one in counters if one.cpu is not None]
    if len(told) < 2 or told[-1].at <= told[0].at:
        return None
    first, last = told[0], told[-1]
    wall = last.at - first.at
    used = (_grown(first.cpu, last.cpu) or 0) / wall
    aside, queued = _grown(first.preempted, last.preempted), _grown(first.queued, last.queued)
    machine = _grown(first.machine, last.machine)
    return CpuUse(
        used=used,
        usable=usable,
        preempted=None if aside is None else aside * 1e9 / wall,
        pressure=stalled_share(counters, 0),
        queued=None if queued is None else queued / wall,
        others=None if machine is None else max(0.0, machine / wall - used),
    )


def _grown(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else max(0, after - before)
