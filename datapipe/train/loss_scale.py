"""The loss scale of float16: gradients too small for it are lifted into its range, and those that overflow are dropped.

What enters: after each backward pass, whether the gradient's norm over all ranks is finite. What leaves: the factor to
multiply the next loss by. Invariant: every rank has the same scale, because they all judge by the same global norm;
a step that overflowed changes no weight, and is counted.

The rule, its numbers and the state's names are those of torch.amp.GradScaler (docs.pytorch.org/docs/stable/amp.html);
that one judges each rank's own gradients, parameter by parameter and with a wait for each optimizer, and cannot be
told what the global norm has shown already. Its first scale is meant for a mean loss; ours is summed over targets, so
it begins lower by about their number.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOPELESS: Final = 24
"""Overflows in a row: from float16's whole range of exponents down, halving cannot be what is missing."""


@final
class LossScale:
    """A factor that doubles after `growth_interval` good steps in a row, and halves after each overflow.

    Attributes:
        scale: of the next loss; 1.0 where it is not enabled, and stays so.
        skipped: steps that overflowed, over the whole run.
    """

    def __init__(
        self,
        *,
        enabled: bool,
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
    ) -> None:
        self.enabled = enabled
        self.scale = init_scale if enabled else 1.0
        self.skipped = 0
        self._growth_factor = growth_factor
        self._backoff_factor = backoff_factor
        self._growth_interval = growth_interval
        self._good = 0
        self._in_a_row = 0
        self.begun = not enabled

    def begin(self, targets: int) -> None:
        """Before the first backward pass: how many targets a micro-batch sums over, on every rank the same number."""
        if not self.begun:
            self.begun = True
            self.scale /= 2.0 ** math.ceil(math.log2(max(1, targets)))

    @property
    def exhausted(self) -> bool:
        """Whether so many steps in a row overflowed that the scale cannot be why."""
        return self._in_a_row >= _HOPELESS

    def update(self, *, overflowed: bool) -> None:
        """A step was done, or dropped because its gradient was not finite."""
        if not self.enabled:
            return
        if overflowed:
            self.scale *= self._backoff_factor
            self.skipped += 1
            self._in_a_row += 1
            self._good = 0
            return
        self._in_a_row = 0
        self._good += 1
        if self._good == self._growth_interval:
            self.scale *= self._growth_factor
            self._good = 0

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON, for the checkpoint; empty where it is not enabled."""
        if not self.enabled:
            return {}
        return {
            "scale": self.scale, "_growth_tracker": self._good, "skipped": self.skipped, "in_a_row": self._in_a_row
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state; an empty one, of a run that needed none, changes nothing.

        Raises:
            CheckpointError: it is no such state.
        """
        if not self.enabled or not state:
            return
        try:
            scale, good, skipped = float(state["scale"]), int(state["_growth_tracker"]), int(state["skipped"])
            in_a_row = int(state.get("in_a_row", 0))  # older checkpoints lack it
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"a loss scale that cannot be read ({error})", fix="resume from an earlier checkpoint"
            ) from error
        if not 0 < scale < float("inf") or min(good, skipped, in_a_row) < 0:
            raise CheckpointError(
                f"a loss scale of {dict(state)}", expected="a finite number above 0 and counts from 0",
                fix="resume from an earlier checkpoint",
            )  # fmt: skip
        self.scale, self._good, self.skipped, self._in_a_row, self.begun = scale, good, skipped, in_a_row, True
