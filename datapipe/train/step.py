"""One optimizer step: the gradient of the mean loss over all of the step's targets, then the update.

    wait → h2d                        once a batch, `accumulate` times       `gradient`
    forward → backward                once a micro-batch of it
    sync                              the host reads loss, targets and norm
    optimizer                         clip, scale, step                      `update`, or `drop` to leave it undone

What enters: a loader's batches. What leaves: a `Gradient`, then changed weights. Invariant: the gradient is of the
summed loss and divided once by all targets, so that the mean is exact however unevenly batches hold them; nothing of
the model changes before `update`.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast, final

import torch

from datapipe.errors import TrainError
from datapipe.train.fitting import Fitting
from datapipe.train.memory_estimate import optimizer_bytes
from datapipe.train.micro_batch import in_pieces, rows_of
from datapipe.train.out_of_memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from datapipe.train.batches import Batches
    from datapipe.train.config import TrainConfig
    from datapipe.train.phases import Phases
    from datapipe.train.strategy import Strategy


class Learner(Protocol):
    """What a step asks of a model, besides being an nn.Module; `GPT` has it."""

    def loss_sum(self, batch: Any) -> tuple[Tensor, Tensor]:
        """The loss summed over the batch's targets (a scalar), and their number (a scalar)."""


@final
@dataclass(frozen=True, kw_only=True)
class Gradient:
    """What the host knows of a gradient before the update.

    Attributes:
        loss_sum: over the targets, nats. targets: their number. norm_of_sum: of the gradient of `loss_sum`.
        rows: of the step's batches. All of these are over all ranks.
        stop: whether any rank was asked to stop.
        overflowed: of float16: the norm is not finite because the loss was scaled too high.
    """

    loss_sum: float
    targets: float
    norm_of_sum: float
    rows: int
    stop: bool = False
    overflowed: bool = False

    @property
    def loss(self) -> float:
        """Mean over the targets, nats."""
        return self.loss_sum / self.targets

    @property
    def norm(self) -> float:
        """Of the gradient of the mean."""
        return self.norm_of_sum / self.targets


@final
class Step:
    """The steps of one run."""

    def __init__(
        self,
        config: TrainConfig,
        strategy: Strategy,
        optimizer: torch.optim.Optimizer,
        batches: Batches,
        phases: Phases,
        *,
        asked_to_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.config = config
        self.strategy = strategy
        self.optimizer = optimizer
        self.batches = batches
        self.phases = phases
        self.device = strategy.device
        self.asked_to_stop = asked_to_stop
        self.fitting = Fitting(config.micro_batch, strategy.model, strategy.device)
        # An epoch's last batch may be shorter on one rank than on another (tail="partial").
        told, rows = self.fitting.rows, getattr(batches.loader, "batch_size", None)
        several = strategy.ranks.world > 1 and told is not None and isinstance(rows, int)
        self._pieces = math.ceil(cast("int", rows) / cast("int", told)) if several else 1
        self._taken: list[Any] = []  # the step's batches, where it may have to begin anew

    def gradient(self, step: int) -> Gradient:
        """Forward and backward of `accumulate` batches; the weights' `grad` then holds that of the summed loss.

        Args:
            step: its number, from 1.

        Raises:
            TrainError: memory ran out, and no smaller micro-batch may or can help; the model refuses a batch.
        """
        try:
            if self.fitting.unknown:
                with self.phases("fit"):
                    self._find_micro_batch()
            return self.fitting.run(self._attempt, step)
        finally:
            self._taken.clear()

    def _attempt(self) -> Gradient:
        phases, fitting = self.phases, self.fitting
        total = torch.zeros((), device=self.device, dtype=torch.float64)
        count = torch.zeros((), device=self.device, dtype=torch.int64)
        rows = 0
        for place in range(self.config.accumulate):
            batch = self._batch(place)
            rows += rows_of(batch)
            pieces = in_pieces(batch, fitting.rows, least=self._pieces)
            for number, piece in enumerate(pieces):
                last = place + 1 == self.config.accumulate and number + 1 == len(pieces)
                loss, targets = self.strategy.learn(piece, phases, last=last)
                total += loss
                count += targets
            del batch, pieces, piece, loss  # the loader may use the memory again
        with phases("sync" if self.device.type == "cuda" else "optimizer"):
            found = self.strategy.measure(total, count, rows=rows, stop=self.asked_to_stop())
        phases.synced()
        return Gradient(
            loss_sum=found.loss_sum, targets=found.targets, norm_of_sum=found.norm_of_sum, rows=found.rows,
            stop=found.stop, overflowed=self.strategy.overflowed(found),
        )  # fmt: skip

    def _batch(self, place: int) -> Any:
        """The step's batch number `place`: one taken before, or the loader's next."""
        if place < len(self._taken):
            return self._taken[place]
        batch = self.batches.next()
        if self.fitting.keeps_batches:
            self._taken.append(batch)
        return batch

    def _find_micro_batch(self) -> None:
        batch = self._batch(0)

        def attempt(rows: int) -> None:
            pieces = in_pieces(batch, rows)
            # The second one's forward pass meets the first one's gradients: the most that a step holds.
            again = len(pieces) > 1 or self.config.accumulate > 1
            for piece in [pieces[-1], pieces[-1]] if again else pieces:  # the last is the longest
                self.strategy.learn(piece, lambda _: nullcontext(), last=True)

        reserve = 0 if self.optimizer.state else optimizer_bytes(self.optimizer)
        self.fitting.find(batch, attempt, reserve=reserve)

    def update(self, gradient: Gradient, rate: float) -> None:
        """Clip and apply the gradient at this learning rate.

        Raises:
            TrainError: memory ran out in it.
        """
        clip = self.config.clip
        with self.phases("optimizer"):
            share = 1.0 if clip is None else min(1.0, clip / (gradient.norm + 1e-6))
            for grad in self.strategy.gradients():
                grad.mul_(share / gradient.targets * self.strategy.unit)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self._apply()
            self.optimizer.zero_grad(set_to_none=True)
        self.strategy.scaler.update(overflowed=False)

    def _apply(self) -> None:
        try:
            self.optimizer.step()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise TrainError(
                f"out of memory in the optimizer's update ({str(error).splitlines()[0][:200]})",
                expected="room for its state; some weights have been changed, so the step cannot be done again",
                fix="go on from the newest checkpoint with a smaller micro_batch, or an optimizer that keeps less",
            ) from error

    def drop(self, gradient: Gradient) -> None:
        """Forget the gradient: the weights and the optimizer stay as they are."""
        self.optimizer.zero_grad(set_to_none=True)
        self.strategy.scaler.update(overflowed=gradient.overflowed)
