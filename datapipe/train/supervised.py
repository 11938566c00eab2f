"""Any module as something the loop can train: which columns go in, which one is to be predicted, a loss by name.

    Supervised(my_net, inputs="image", targets="label")                                  a classifier of images
    Supervised(my_net, inputs=["age", "income"], targets="price", loss="mse")            a regression on a table
    Supervised(hf_model, inputs={"input_ids": "tokens"}, targets="label")                keyword arguments, `.logits`

What enters: a batch, a dict of tensors. What leaves: the loss summed over its targets, and their number. Invariant:
rows that `tail="pad"` added (`mask` False) and targets of -100 count in neither.

Where a batch has `<targets>_mixed` and `<targets>_share` beside its targets (mixup, cutmix: see `datapipe.Images`),
cross entropy is share · loss(targets) + (1 - share) · loss(mixed) of each row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, cast, final

import torch
import torch.nn.functional as F  # noqa: N812  (the name that every PyTorch file gives it)
from torch import Tensor, nn

from datapipe.errors import ConfigError, TrainError
from datapipe.train.config_checks import nearest, one_of
from datapipe.train.model import IGNORED

if TYPE_CHECKING:
    from collections.abc import Sequence

LOSSES: Final = ("cross_entropy", "binary_cross_entropy", "mse")
_MASK: Final = "mask"
_SHOWN: Final = 3
"""Values of a column of texts that a message names."""


@final
class Supervised(nn.Module):
    """A module with inputs, targets and a loss.

    Args:
        model: called with the inputs; returns a tensor, or what has one first or as `logits` (Hugging Face's outputs).
        inputs: a column; several, which are stacked to float32 [B, n] where each is [B] (a table's), else given one
            after the other; or a mapping of the model's argument names to columns.
        targets: the column to predict. loss: "cross_entropy": logits [B, classes] or [B, …, classes], or classes in the
            second place as torch has it, against whole numbers [B] or [B, …], in nats; "binary_cross_entropy": logits
            against 0 or 1 of the same shape; "mse": squared differences, every element a target.
        scale: whole-number inputs become float32 times this (1/255 for bytes of an image); None: they stay.

    Attributes:
        label_smoothing: the share of a target that is spread over all classes while training; `train` sets it.

    Raises:
        ConfigError: the loss is unknown, or no column is named.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        inputs: str | Sequence[str] | Mapping[str, str],
        targets: str,
        loss: Literal["cross_entropy", "binary_cross_entropy", "mse"] = "cross_entropy",
        scale: float | None = None,
    ) -> None:
        super().__init__()
        one_of("loss", loss, LOSSES)
        if not inputs or not targets:
            raise ConfigError("a loss without columns", expected="inputs and targets", fix='inputs="image", …')
        self.model = model
        self.inputs = inputs if isinstance(inputs, str) else dict(inputs) if isinstance(inputs, Mapping) else [*inputs]
        self.targets = targets
        self.loss = loss
        self.scale = scale
        self.label_smoothing = 0.0

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """The model's predictions for a batch."""
        if isinstance(self.inputs, dict):
            said = self.model(**{name: self._input(batch, column) for name, column in self.inputs.items()})
        elif isinstance(self.inputs, str):
            said = self.model(self._input(batch, self.inputs))
        else:
            columns = [self._input(batch, column) for column in self.inputs]
            if all(column.ndim == 1 for column in columns):
                said = self.model(torch.stack([column.float() for column in columns], dim=1))
            else:
                said = self.model(*columns)
        logits = getattr(said, "logits", None)
        if logits is None and isinstance(said, (dict, tuple, list)):
            logits = said["logits"] if isinstance(said, dict) else said[0]
        return cast("Tensor", said if logits is None else logits)

    def loss_sum(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The loss summed over the batch's targets (float32 scalar), and their number (int64 scalar).

        Raises:
            TrainError: a column is missing, or predictions and targets are of shapes that do not fit.
        """
        wanted = _column(batch, self.targets)
        real = batch.get(_MASK)
        said = self(batch).float()
        smoothing = self.label_smoothing if self.training else 0.0
        if self.loss == "cross_entropy":
            mixed, share = batch.get(f"{self.targets}_mixed"), batch.get(f"{self.targets}_share")
            if not isinstance(mixed, Tensor) or not isinstance(share, Tensor):
                return _cross_entropy(said, wanted, real, smoothing)
            own, count = _cross_entropy(said, wanted, real, smoothing, share)
            return own + _cross_entropy(said, mixed, real, smoothing, 1 - share)[0], count
        if said.shape != wanted.shape and said.numel() == wanted.numel():
            said = said.reshape(wanted.shape)  # [B, 1] for a target of [B]
        if said.shape != wanted.shape:
            raise _misfit(said, wanted, "predictions of the targets' shape")
        wanted = wanted.float()
        if self.loss == "mse":
            each = F.mse_loss(said, wanted, reduction="none")
        else:
            wanted = wanted * (1 - smoothing) + smoothing / 2
            each = F.binary_cross_entropy_with_logits(said, wanted, reduction="none")
        if real is not None:
            each = each[real]
        return each.sum(), torch.tensor(each.numel(), device=each.device)

    def _input(self, batch: Mapping[str, Any], name: str) -> Tensor:
        value = _column(batch, name)
        return value if self.scale is None or value.is_floating_point() else value.float() * self.scale


def _cross_entropy(
    said: Tensor, wanted: Tensor, real: Tensor | None, smoothing: float, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The loss summed over targets, each row's times its weight (float [B]); and how many targets there are."""
    wanted = wanted.long()
    if real is not None:
        wanted = wanted.masked_fill(~real.view(-1, *[1] * (wanted.ndim - 1)), IGNORED)
    if said.ndim != wanted.ndim + 1:
        raise _misfit(said, wanted, "logits with one dimension more than the targets, the classes")
    if said.shape[:-1] == wanted.shape:
        said = said.flatten(0, -2)
    elif said.shape[:1] + said.shape[2:] == wanted.shape:
        said = said.movedim(1, -1).flatten(0, -2)
    else:
        raise _misfit(said, wanted, "logits and targets of the same rows and places")
    if weights is not None:
        weights = weights.view(-1, *[1] * (wanted.ndim - 1)).expand_as(wanted).flatten()
    wanted = wanted.flatten()
    classes = said.shape[-1]
    # On a GPU a target beyond the classes would end the process with an assertion of the kernel's.
    if wanted.device.type == "cpu" and wanted.numel() and int(wanted.max()) >= classes:
        raise TrainError(
            f"a target of {int(wanted.max())} for {classes} classes",
            expected=f"0 to {classes - 1}",
            fix="a model with more classes, or the column of class numbers as `targets`",
        )
    how: Literal["none", "sum"] = "sum" if weights is None else "none"
    total = F.cross_entropy(said, wanted, ignore_index=IGNORED, reduction=how, label_smoothing=smoothing)
    if weights is not None:
        total = (total * weights).sum()
    return total, (wanted != IGNORED).sum()


def _column(batch: Mapping[str, Any], name: str) -> Tensor:
    value = batch.get(name)
    if not isinstance(value, Tensor):
        tensors = [each for each, column in batch.items() if isinstance(column, Tensor)]
        kind = "no column" if value is None else f"a {type(value).__name__}, not a tensor, as column"
        fix = nearest(name, tensors)
        if isinstance(value, list) and any(isinstance(each, str) for each in value):
            words = sorted({each for each in value if isinstance(each, str)})
            some = ", ".join(f'"{each}"' for each in words[:_SHOWN])
            fix = f'list its values: dtypes={{"{name}": [{some}, …]}} of the loader gives the place of each, int32'
        raise TrainError(f"a batch with {kind} {name!r}", expected=f"one of {', '.join(tensors)}", fix=fix)
    return value


def _misfit(said: Tensor, wanted: Tensor, expected: str) -> TrainError:
    return TrainError(
        f"predictions {tuple(said.shape)} for targets {tuple(wanted.shape)}",
        expected=expected,
        fix="look at what the model returns, and at `loss`",
    )
