"""Runs that leak memory, fill a cache and stop, or keep nothing: which of them are warned of?

What enters: a bench and how many rounds. What leaves: per run whether it leaked, and whether it was said to.
Invariant: the pipes differ in what their transform keeps, and in nothing else; memory is looked at so often that a run
of two seconds has the readings that the test of a leak needs (16 among settled steps).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from datapipe.cli.selftest.pipe import Pipe

if TYPE_CHECKING:
    from datapipe.cli.selftest.pipeline import Bench

_PLAIN: Final = Pipe(steps=240, transform="sleep", transform_ms=1.0, device_ms=8.0)
_KEPT_KB: Final = 1024
_INTERVAL: Final = 0.01


def leak_trials(bench: Bench, rounds: int) -> list[tuple[bool, bool | None]]:
    """(whether it leaked, whether a leak was warned of; None: too few readings) of each run, three a round."""
    leaking = dataclasses.replace(_PLAIN, leak_kb=_KEPT_KB)
    filling = dataclasses.replace(leaking, leak_calls=_PLAIN.steps // 3)
    found: list[tuple[bool, bool | None]] = []
    for _ in range(rounds):
        for pipe in (_PLAIN, leaking, filling):
            use = bench.recorded(pipe, interval=_INTERVAL).summary.memory_use
            said = None if use is None or not use.growth else any(one.leak for one in use.growth)
            found.append((pipe is leaking, said))
    return found
