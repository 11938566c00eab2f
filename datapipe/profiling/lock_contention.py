"""Whether Python's lock cost the steady steps anything: how late it came in them, and whom that held up.

What enters: a run, its ledger, which spans held the lock, what the loop waited for it. What leaves: a `LockDelay` of
the steady steps alone.
Invariant: probes outside steady steps count for nothing (imports hold the lock for seconds: of one run's 127 probes
59% found it taken, of those in its steps none); a stage is held up only where its own spans were off the core, and
only where the loop waited for data: what waits for nobody loses nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from datapipe.profiling.intervals import union
from datapipe.profiling.lock_probe import lock_delay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.analysis import RawRun
    from datapipe.profiling.ledger import Ledger
    from datapipe.profiling.lock_probe import LockDelay
    from datapipe.profiling.lock_waits import LockWait

_MATTERS: Final = 0.05
"""Share of the steady step that must be lost to the lock, and waited for data (`verdict.MODERATE`)."""


def steady_lock(
    run: RawRun, ledger: Ledger, lost: Mapping[str, float], lock_waits: Sequence[LockWait]
) -> LockDelay | None:
    """The lock's delay in the steady steps; None where it was not probed.

    Args:
        run: the probes.
        ledger: the steps.
        lost: of `lost_together`.
        lock_waits: what the loop's parts waited for it.
    """
    import numpy as np

    if run.watched is None or run.watched.lock is None:
        return None
    whole = run.watched.lock
    asked = np.array([when for when, _ in run.watched.probes], dtype=np.int64)
    late = np.array([late for _, late in run.watched.probes], dtype=np.int64)
    inside = _in_steady_steps(ledger, asked)
    found = lock_delay(late[inside].tolist(), enabled=whole.enabled, switch=whole.switch, cpu=whole.cpu)
    loader = run.notes.get("loader")
    name, ns = _held_up(ledger, lost, lock_waits)
    return replace(found, held_up=name, lost=ns, loader=loader if isinstance(loader, str) else "")


def _in_steady_steps(ledger: Ledger, when: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    import numpy as np

    if not len(ledger.start):
        return np.zeros(len(when), dtype=bool)
    step = np.searchsorted(ledger.start, when, side="right") - 1
    inside: npt.NDArray[np.bool_] = (step >= 0) & ledger.steady[step] & (when < ledger.end[step])
    return inside


def lost_together(run: RawRun, ledger: Ledger, holding: npt.NDArray[np.bool_]) -> dict[str, float]:
    """For each stage that holds the lock, ns of the steady steps that its threads waited for one another.

    Args:
        run: the spans.
        ledger: the steps.
        holding: bool[spans], of `lock_waits.lock_held`.
    """
    if not holding.any():
        return dict.fromkeys(run.stages, 0.0)
    spans = run.spans[holding & _in_steady_steps(ledger, run.spans["start"].astype("int64"))]
    return {name: _together(spans[spans["stage"] == number]) for number, name in enumerate(run.stages)}


def _held_up(ledger: Ledger, lost: Mapping[str, float], lock_waits: Sequence[LockWait]) -> tuple[str, float]:
    """The part or stage that lost most to the lock, and ns a step; ("", 0) where the steps were none the longer."""
    import numpy as np

    steady = ledger.steady
    if not steady.any():
        return "", 0.0
    step = float((ledger.end - ledger.start)[steady].mean())
    waited = float(ledger.part("wait")[steady].mean())
    most = max(lock_waits, key=lambda each: each.mean, default=None)
    if most is not None and most.mean >= _MATTERS * step:
        return most.part, most.mean
    if waited < _MATTERS * step:
        return "", 0.0
    name = max(lost, key=lambda each: lost[each])
    per_step = lost[name] / int(np.count_nonzero(steady))
    return (name, per_step) if per_step >= _MATTERS * step else ("", 0.0)


def _together(spans: npt.NDArray[np.void]) -> float:
    """Ns that spans of one stage, which holds the lock, were open in more than one thread and off the core."""
    if not len(spans):
        return 0.0
    start, end = union(spans["start"], spans["end"])
    length = (spans["end"] - spans["start"]).astype("int64")
    return float(min(length.sum() - (end - start).sum(), max(0, (length - spans["cpu"].astype("int64")).sum())))
