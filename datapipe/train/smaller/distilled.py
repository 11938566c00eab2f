"""A shallower model that learns from a trained one: distillation (Hinton 2015, arXiv:1503.02531).

What enters: a trained GPT, the teacher. What leaves: a student of the same width and fewer blocks, and the module that
trains it. Invariant: the teacher is not trained and in no checkpoint; the student begins as every n-th block of it
(DistilBERT, arXiv:1910.01108, section 3).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, final

import torch
import torch.nn.functional as F  # noqa: N812  (the name that every PyTorch file gives it)
from torch import Tensor, nn

from datapipe.errors import ConfigError
from datapipe.train.model import GPT, IGNORED, targets

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPERATURE: Final = 2.0
"""As DistilBERT has it."""
SOFT: Final = 0.5
"""The teacher's share of the loss; the rest is the targets'."""


def student_of(teacher: GPT, *, layers: int) -> GPT:
    """A GPT of `layers` blocks, begun as those of the teacher that lie evenly spread.

    Raises:
        ConfigError: the teacher has no more blocks than that.
    """
    whole = teacher.config.layers
    if not 1 <= layers < whole:
        raise ConfigError(
            f"a student of {layers} blocks, of a teacher of {whole}",
            expected=f"1 to {whole - 1}" if whole > 1 else "a teacher of two blocks at least",
            fix=f"layers={whole // 2}" if whole > 1 else "other methods: `datapipe shrink --method …`",
        )
    student = GPT(replace(teacher.config, layers=layers))
    weights = teacher.state_dict()
    taken = {f"blocks.{n}.": f"blocks.{n * whole // layers}." for n in range(layers)}
    wanted = student.state_dict()
    for name in wanted:
        prefix = next((p for p in taken if name.startswith(p)), None)
        wanted[name] = weights[name if prefix is None else taken[prefix] + name[len(prefix) :]].clone()
    student.load_state_dict(wanted)
    return student


@final
class Distilled(nn.Module):
    """The student in training.

    The loss is `soft` times T**2 times KL(teacher || student) at temperature T, and the rest times the cross-entropy on
    the targets; T**2 keeps the two gradients in proportion (section 2).
    """

    def __init__(self, student: GPT, teacher: GPT, *, temperature: float = TEMPERATURE, soft: float = SOFT) -> None:
        super().__init__()
        self.student = student
        self.temperature = temperature
        self.soft = soft
        # In a tuple it is no part of this module: not trained, not saved, and left as it is.
        self._teacher = (teacher,)

    def loss_sum(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The loss summed over the batch's targets (float32 scalar), and their number (int64 scalar).

        Args:
            batch: as for `GPT.loss_sum`.
        """
        tokens, segments = batch["tokens"].long(), batch.get("segment_ids")
        places = batch.get("position_ids") if segments is not None else None
        wanted = targets(tokens, segments, batch.get("mask"))
        counted = wanted != IGNORED
        teacher = self._teacher[0].to(tokens.device)
        with torch.no_grad():
            told = teacher(tokens, segments, places)[counted].float() / self.temperature
        logits = self.student(tokens, segments, places)[counted].float()
        soft = F.kl_div(
            (logits / self.temperature).log_softmax(-1), told.log_softmax(-1), log_target=True, reduction="sum"
        )
        hard = F.cross_entropy(logits, wanted[counted], reduction="sum")
        return self.soft * self.temperature**2 * soft + (1 - self.soft) * hard, counted.sum()
