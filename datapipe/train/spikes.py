"""A loss or a gradient that is no number, or far above those before: found before the update, and written down.

What enters: each step's gradient. What leaves: a `Spike`, or None; and what a checkpoint keeps of it. Invariant: the
judgement depends on the run's steps alone, so a resumed run judges as one never stopped.

The rule is that of OLMo-core (allenai/OLMo-core, optim/skip_step_optimizer.py): from step max(20, window / 2) on, a
loss or gradient norm more than `sigma` (6) standard deviations above the mean of the last `window` (128) steps. Two
differences: what is not finite stays out of the window, where it would make every comparison false for 128 steps; and a
spike enters as high as the limit it broke, so that one of 1e30 does not hide the next, and a lasting rise becomes the
new level within some steps. Measured (benchmarks/LOG.md, 2026-11-21): of 7,200 quiet steps 7 were called spikes, all by
their norm; a batch of noise was found 12 times of 12.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datapipe.train.step import Gradient

MOST_SKIPPED: Final = 10
"""Updates left out in a row before the run ends: no longer a bad batch, but weights that are beyond help. A batch that
recurs is one step an epoch; a loss that has left its level for good becomes the level within fewer steps than this."""
_LEAST: Final = 20
_NOISE: Final = 1e-6
"""Share of the mean below which a rise is rounding: float32 sums of a loss differ by so much."""


@final
@dataclass(frozen=True, kw_only=True)
class Spike:
    """What was out of the ordinary.

    Attributes:
        what: "loss" or "gradient's norm". value: its. limit: the most that passes; None: it is no finite number.
    """

    what: Literal["loss", "gradient's norm"]
    value: float
    limit: float | None

    def __str__(self) -> str:
        if self.limit is None:
            return f"the {self.what} is {self.value}"
        return f"the {self.what} is {self.value:.6g}, above {self.limit:.6g}"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON; a number that is not finite as text."""
        value = self.value if math.isfinite(self.value) else str(self.value)
        return {"what": self.what, "value": value, "limit": self.limit}


@final
class Sentinel:
    """Watches the steps of one run.

    Attributes:
        in_a_row: steps up to the last whose update was left out.
    """

    def __init__(self, *, sigma: float, window: int) -> None:
        self._sigma = sigma
        self._losses: deque[float] = deque(maxlen=window)
        self._norms: deque[float] = deque(maxlen=window)
        self._from = max(_LEAST, window // 2)
        self.in_a_row = 0

    def judge(self, gradient: Gradient) -> Spike | None:
        """What is wrong with a step, if anything: its loss first. It enters the window."""
        if not math.isfinite(gradient.loss_sum):
            return Spike(what="loss", value=gradient.loss, limit=None)
        if not math.isfinite(gradient.norm_of_sum):
            return Spike(what="gradient's norm", value=gradient.norm_of_sum, limit=None)
        norm = self._seen(self._norms, gradient.norm)
        loss = self._seen(self._losses, gradient.loss)
        if loss is not None:
            return Spike(what="loss", value=gradient.loss, limit=loss)
        return None if norm is None else Spike(what="gradient's norm", value=gradient.norm, limit=norm)

    def _seen(self, window: deque[float], value: float) -> float | None:
        """The limit, if the value is above it."""
        limit = _limit(window, self._sigma) if len(window) >= self._from - 1 else math.inf
        window.append(min(value, limit))
        return limit if value > limit else None

    def state(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"losses": list(self._losses), "norms": list(self._norms), "in_a_row": self.in_a_row}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        for window, name in ((self._losses, "losses"), (self._norms, "norms")):
            window.clear()
            window.extend(float(each) for each in state.get(name, ()))
        self.in_a_row = int(state.get("in_a_row", 0))


def _limit(window: Sequence[float] | deque[float], sigma: float) -> float:
    count = len(window)
    mean = math.fsum(window) / count
    variance = math.fsum((each - mean) ** 2 for each in window) / (count - 1)
    return mean + max(sigma * math.sqrt(variance), _NOISE * abs(mean))
