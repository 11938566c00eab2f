"""The loss on rows that are not trained on, and what follows from it: the best so far, and when to stop.

What enters: a model and a second loader. What leaves: the mean loss over all targets of one epoch of it. Invariant:
training goes on as if it had not been evaluated: the mode, the generators and the training loader are as before; the
mean is exact, however unevenly batches hold targets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast, final

import torch

from datapipe.errors import TrainError
from datapipe.train import random_state
from datapipe.train.batches import moved, needs_moving
from datapipe.train.micro_batch import in_pieces
from datapipe.train.precision import autocast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor, nn

    from datapipe.train.precision import Precision
    from datapipe.train.step import Learner


class EvaluationLoader(Protocol):
    """What an evaluation asks of a loader: that it can be iterated over, again and again."""

    def __iter__(self) -> Iterator[Any]:
        """All batches; with a `set_epoch`, those of epoch 0 each time."""


@final
@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The mean `loss` over `targets`, nats; of `batches`."""

    loss: float
    targets: int
    batches: int


def evaluate(
    model: nn.Module,
    loader: EvaluationLoader,
    *,
    device: torch.device,
    precision: Precision = "fp32",
    loss_of: Callable[[Any], tuple[Tensor, Tensor]] | None = None,
    reduce: Callable[[Tensor], Tensor] | None = None,
    rows: int | None = None,
) -> Evaluation:
    """The loss of a model on all that a loader gives.

    Args:
        model: with `loss_sum(batch)`; it is evaluated in eval mode, without gradients.
        loader: one epoch of it. On several ranks, this rank's share.
        loss_of: a batch → its summed loss and targets, in place of the model's own in this precision.
        reduce: sums a float64 [3] over the ranks; None: there is one.
        rows: at once; None: whole batches.

    Raises:
        TrainError: there is no target. What the loader raises passes through.
    """
    learner = cast("Learner", model)
    training = model.training
    set_epoch = getattr(loader, "set_epoch", None)
    if callable(set_epoch):
        set_epoch(0)
    sums = torch.zeros(3, dtype=torch.float64, device=device)  # loss, targets, batches
    iterator = iter(loader)
    model.eval()
    before = random_state.capture(device)
    try:
        with torch.no_grad():
            for batch in iterator:
                here = moved(batch, device) if needs_moving(batch, device) else batch
                sums[2] += 1
                for piece in in_pieces(here, rows):
                    if loss_of is not None:
                        loss, targets = loss_of(piece)
                    else:
                        with autocast(device, precision):
                            loss, targets = learner.loss_sum(piece)
                    sums[:2] += torch.stack([loss.double(), targets.double()])
    finally:
        model.train(training)
        random_state.restore(before, device)
        close = getattr(iterator, "close", None)
        if callable(close):
            close()
    total, targets_seen, batches = (sums if reduce is None else reduce(sums)).tolist()
    if not targets_seen:
        raise TrainError(
            f"an evaluation without a target, of {int(batches)} batches",
            expected="at least one",
            fix='tail="partial" for the evaluation\'s loader, or another dataset',
        )
    return Evaluation(loss=total / targets_seen, targets=int(targets_seen), batches=int(batches))


@final
class Best:
    """The lowest evaluation so far, and how many in a row came no lower.

    Attributes:
        loss, step: of the lowest; None and 0: there is none. since: evaluations after it.
    """

    def __init__(self) -> None:
        self.loss: float | None = None
        self.step = 0
        self.since = 0

    def seen(self, step: int, loss: float) -> bool:
        """Count an evaluation; whether it is the best. What is no number is none."""
        better = math.isfinite(loss) and (self.loss is None or loss < self.loss)
        if better:
            self.loss, self.step, self.since = loss, step, 0
        else:
            self.since += 1
        return better

    def state(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"loss": self.loss, "step": self.step, "since": self.since}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.loss = None if state["loss"] is None else float(state["loss"])
        self.step, self.since = int(state["step"]), int(state["since"])
