"""One optimizer step: the gradient of the mean loss over all of the step's targets, then the update.

    wait → h2d → forward → backward   once a batch, `accumulate` times       `gradient`
    sync                              the host reads loss, targets and norm
    optimizer                         clip, scale, step                      `update`, or `drop` to leave it undone

What enters: a loader's batches. What leaves: a `Gradient`, then changed weights. Invariant: the gradient is of the
summed loss and divided once by all targets, so that the mean is exact however unevenly batches hold them; nothing of
the model changes before `update`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast, final

import torch
from torch import Tensor, nn

from datapipe.train.precision import autocast

if TYPE_CHECKING:
    from datapipe.train.batches import Batches
    from datapipe.train.config import TrainConfig
    from datapipe.train.phases import Phases
    from datapipe.train.precision import Precision


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
        rows: of the step's batches.
    """

    loss_sum: float
    targets: float
    norm_of_sum: float
    rows: int

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
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Batches,
        phases: Phases,
        *,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.config = config
        self.model = model
        self.learner = cast("Learner", model)
        self.optimizer = optimizer
        self.batches = batches
        self.phases = phases
        self.device = device
        self.precision = precision

    def gradient(self) -> Gradient:
        """Forward and backward of `accumulate` batches; the weights' `grad` then holds that of the summed loss."""
        phases = self.phases
        total = torch.zeros((), device=self.device, dtype=torch.float64)
        count = torch.zeros((), device=self.device, dtype=torch.int64)
        rows = 0
        for _ in range(self.config.accumulate):
            batch = self.batches.next()
            with phases("forward"), autocast(self.device, self.precision):
                loss, targets = self.learner.loss_sum(batch)
            with phases("backward"):
                loss.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
            total += loss.detach()
            count += targets
            rows += rows_of(batch)
            del batch, loss  # the loader may use the memory again
        with phases("sync" if self.device.type == "cuda" else "optimizer"):
            norm = nn.utils.get_total_norm(self._grads())
            loss_sum, seen, norm_of_sum = torch.stack([total, count.double(), norm.double()]).tolist()
        phases.synced()
        return Gradient(loss_sum=loss_sum, targets=seen, norm_of_sum=norm_of_sum, rows=rows)

    def update(self, gradient: Gradient, rate: float) -> None:
        """Clip and apply the gradient at this learning rate."""
        clip = self.config.clip
        with self.phases("optimizer"):
            share = 1.0 if clip is None else min(1.0, clip / (gradient.norm + 1e-6))
            for grad in self._grads():
                grad.mul_(share / gradient.targets)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def drop(self) -> None:
        """Forget the gradient: the weights and the optimizer stay as they are."""
        self.optimizer.zero_grad(set_to_none=True)

    def _grads(self) -> list[Tensor]:
        return [weight.grad for weight in self.model.parameters() if weight.grad is not None]


def rows_of(batch: Any) -> int:
    """Rows of a batch: the length of its first tensor."""
    first = next((value for value in batch.values() if isinstance(value, Tensor) and value.ndim), None)
    return 0 if first is None else len(first)
