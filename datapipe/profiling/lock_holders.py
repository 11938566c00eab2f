"""Which stages hold Python's lock while they compute: the lock was asked for, now and then, while they ran.

What enters: a run whose lock was probed. What leaves: for each stage that was seen often enough, the share of its time
that it holds the lock. Invariant: a stage is judged only by probes that came while no other stage computed, so that
none is blamed for what another did; what runs in other processes holds no lock of this one.

A stage that holds the lock is let go of only when another thread asks, so nearly every probe finds it taken (0.9 of
them, measured); one that computes without it is in Python for moments between two calls (0.05 to 0.1). Whether a share
lies above `_RARELY` or below `MOSTLY` is an exact binomial test on each side, at `_SURE`. Above both it is 1, below
both 0, between them as measured; where neither test is sure the stage is left out. (At 0.002, five of five say that it
holds it, and six of six that it does not.)
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from datapipe.events import DEVICE
from datapipe.profiling.lock_probe import TAKEN_NS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.analysis import RawRun

_RARELY: Final = 0.25
MOSTLY: Final = 0.65
_SURE: Final = 0.002
_PROCESS: Final = re.compile(r"(DataLoader )?worker \d+")
"""What a ring of another process is called (`torch_workers`)."""


def lock_holders(run: RawRun, computing: Iterable[str]) -> Mapping[str, float]:
    """The share of its time that each stage holds the lock; stages that the probes do not settle are left out.

    Args:
        run: the spans, and what watching gave.
        computing: the stages that use a core: the others cannot hold the lock for long.
    """
    import numpy as np

    probes = () if run.watched is None else run.watched.probes
    names = [name for name in computing if name in run.stages]
    if not probes or not names:
        return {}
    when = np.array([asked for asked, _ in probes], dtype=np.int64)
    taken = np.array([late > TAKEN_NS for _, late in probes])
    open_at = np.stack([_open(run, name, when) for name in names])
    alone = open_at & (open_at.sum(axis=0) == 1)
    found = {}
    for name, mine in zip(names, alone, strict=True):
        count, held = int(mine.sum()), int(taken[mine].sum())
        above, below = _tail(count, held, _RARELY) < _SURE, _tail(count, count - held, 1 - MOSTLY) < _SURE
        if above or below:
            found[name] = held / count if above and below else float(above)
    return found


def elsewhere(run: RawRun) -> list[int]:
    """Numbers of the threads that are worker processes: this process's lock is nothing to them."""
    return [number for number, name in enumerate(run.threads) if _PROCESS.fullmatch(name)]


def _open(run: RawRun, stage: str, when: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """bool[probes]: whether any thread of this process was in a stage at each time."""
    import numpy as np

    spans = run.spans
    here = np.isin(spans["thread"], elsewhere(run), invert=True) & (spans["flags"] & DEVICE == 0)
    mine = spans[here & (spans["stage"] == run.stages.index(stage))]
    begun = np.searchsorted(np.sort(mine["start"]), when, side="right")
    ended = np.searchsorted(np.sort(mine["end"]), when, side="right")
    running: npt.NDArray[np.bool_] = begun > ended
    return running


def _tail(count: int, least: int, chance: float) -> float:
    """The chance of at least so many of `count` (binomial)."""
    whole, yes, no = math.lgamma(count + 1), math.log(chance), math.log(1 - chance)
    return sum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(count - k + 1) + k * yes + (count - k) * no)
        for k in range(least, count + 1)
    )
