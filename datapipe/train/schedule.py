"""The learning rate: a pure function of the step, so there is nothing of it to save.

What enters: a step, counted from 0. What leaves: the rate of that step's update. Invariant: never above the peak, never
0 or below before the last step, and the same wherever the run was stopped.
"""

from __future__ import annotations

import math


def learning_rate(step: int, *, peak: float, warmup: int, steps: int, floor: float = 0.1) -> float:
    """Linear warm-up, then half a cosine from the peak to `floor` of it (arXiv:1608.03983, without restarts).

    Args:
        step: from 0. Step `warmup - 1` is the first at the peak; step `steps - 1`, the last, is at the floor.
        peak: the highest rate.
        warmup: steps of the rise; 0: begin at the peak.
        steps: of the whole run; later ones stay at the floor.
        floor: the last rate as a share of the peak.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    span = steps - 1 - max(0, warmup - 1)
    done = 1.0 if span <= 0 else min(1.0, (step - max(0, warmup - 1)) / span)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))
