"""How far a prediction may be off: the half-width of its 80% interval, calibrated on fixes that were executed.

What enters: what the run says of itself and of its machine, and how far the change moves the step. What leaves: ns.
Invariant: no constant here comes from the model; each from executed runs.

The interval is for the same run executed again with the change: the same data in the same order. So what items differ
by is no part of it; what is, is that the machine does the same work in another time, and that the model is wrong.

Its standard deviation has six parts, added in quadrature, each a share of the predicted step or of the change:

    a run done again on a quiet machine     1% of the step
    the run's own restlessness              60% of what its eighths differ by, of the step
    the model, where it moves the step      5% of the change, and 1.2 of what the unchanged replay misses, of the change
    threads woken late                      2.5% of the step × the share of the run in which some task of the machine
                                            waited for a core (PSI "some": Documentation/accounting/psi.rst)
    cores lost to other programs            25% of the step × that share × the cores that the run itself used
    batches sent to processes and back      10% of the step, where a change has our own loader send them

The constants are those of a grid that described best (least mean of log width + error ÷ width, a Laplace likelihood)
265 changes of 75 generated pipelines (`datapipe selftest`, seeds 11 and 12), executed on a machine of two cores that
was quiet for some and overloaded for others; their common scale is the one at which 80% of the intervals held the truth
(split-conformal calibration: Lei et al. 2018, JASA 113). Without PSI 2.5% of the step stand in for what it tells.
The first two were 0.6% and 4%, and held 66% of 743 further changes of 202 pipelines (seeds 0 and 21, quiet) where the
step stayed and 76% where it moved; the same pipe run twice differed by 0.8 to 1.0% there, in the median. The last part
is what 14 changes were off (root mean square), once the time of sending was told.

Unchanged replays of such pipelines miss 8% of the recording at most. One that misses more than 10% shows that the run
works in a way the model does not know: all of that is added, of the step, and the prediction is an extrapolation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datapipe.profiling.changes import Change
    from datapipe.profiling.workload import Workload

_Z80: Final = 1.2816
"""Half-width of an 80% interval in standard deviations of a normal distribution."""
_AGAIN: Final = 0.01
_RESTLESS: Final = 0.6
_MODEL: Final = 0.05
_SENT: Final = 0.1
_MISFIT: Final = 1.2
_FITS: Final = 0.1
_LATE: Final = 0.025
_STOLEN: Final = 0.25
_UNTOLD: Final = 0.025
_FAR: Final = 4.0
"""A factor beyond this leaves so little of what was measured that it is no longer what is measured."""
_UNTRIED: Final = 0.1
"""Share of the change that is doubted where no executed fix has shown how well it is predicted: supposed."""
_NEVER_EXECUTED: Final = ("order", "dtypes", "pinned")


def half_width(work: Workload, change: Change, *, before: float, after: float, recorded: float) -> float:
    """Half of the 80% interval of a step, ns.

    Args:
        work: what the run was, and what its machine was like.
        change: what is predicted.
        before: the replayed step as it was, ns. after: with the change.
        recorded: the step that was recorded, ns.
    """
    scale = recorded / before if before else 1.0
    step, moved = after * scale, abs(after - before) * scale
    others = (_UNTOLD,) if work.stalled is None else (_LATE * work.stalled, _STOLEN * work.stalled * work.busy)
    sent = _SENT if change.kind == "workers" and work.cheap else 0.0
    machine = math.hypot(_AGAIN, _RESTLESS * work.drift, sent, *others)
    doubted = _MODEL if tried(change) else _UNTRIED
    missed = abs(scale - 1)
    unknown = (0.0 if fits(missed) else missed) * step
    return math.hypot(_Z80 * math.hypot(machine * step, doubted * moved, _MISFIT * missed * moved), unknown)


def fits(missed: float) -> bool:
    """Whether an unchanged replay that misses such a share of the recording is like those that were executed."""
    return missed <= _FITS


def tried(change: Change) -> bool:
    """Whether changes of this kind and size were executed, so that it is known how well they are predicted."""
    return change.kind not in _NEVER_EXECUTED and (change.kind == "latency" or 1 / _FAR <= change.factor <= _FAR)
