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


@final
@dataclass(frozen=True, kw_only=True)
class CpuUse:
    """Cores that the run used.

    Attributes:
        used: cores in use on average, child processes included.
        usable: cores that the run may use.
        preempted: times a second that a thread of this process was put aside although it had work.
        pressure: share of the wall in which some task of the machine waited for a core (PSI "some"); None: not told.
    """

    used: float
    usable: float
    preempted: float | None
    pressure: float | None

    @property
    def warning(self) -> str | None:
        """What to tell the user, or None."""
        if self.usable > 0 and self.used >= FULL * self.usable:
            return f"The CPUs are full: {self.used:.1f} of {self.usable:.0f} cores in use; more threads add no speed."
        return None


def cpu_use(counters: Sequence[Counters], *, usable: float) -> CpuUse | None:
    """Cores that the run used; None where the system does not tell.

    Args:
        counters: readings in order of time.
        usable: cores that the run may use.
    """
    told = [(one.at, one.cpu, one.preempted) for one in counters if one.cpu is not None]
    if len(told) < 2 or told[-1][0] <= told[0][0]:
        return None
    wall = told[-1][0] - told[0][0]
    (_, cpu, aside), (_, cpu_after, aside_after) = told[0], told[-1]
    preempted = None if aside is None or aside_after is None else (aside_after - aside) * 1e9 / wall
    return CpuUse(
        used=max(0, (cpu_after or 0) - (cpu or 0)) / wall,
        usable=usable,
        preempted=preempted,
        pressure=stalled_share(counters, 0),
    )
