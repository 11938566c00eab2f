"""Fine-tuning by small matrices beside the weights: peft's LoRA (arXiv:2106.09685).

What enters: a trained GPT. What leaves: the same with adapters, which alone are trained, and what merges them.
Invariant: before the first step it computes what it did (B begins at 0); merged it is a GPT of the same shape, and
computes what it did with the adapters, within float32's rounding.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final, cast

from datapipe.train.smaller.int8 import quiet_imports

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.train.model import GPT

_TARGETS: Final = ("qkv", "out", "up")
"""Every Linear of a block: "QLoRA" (arXiv:2305.14314, section 4) found that all of them are needed to match full
fine-tuning."""


def with_adapters(model: GPT, *, rank: int, alpha: float | None = None) -> tuple[GPT, Callable[[], GPT]]:
    """(a copy with adapters, what merges them into it and gives the plain GPT).

    Args:
        rank: of each adapter. alpha: they count alpha / rank times; None: twice the rank, as is usual.

    Raises:
        ConfigError: peft is not installed.
    """
    with quiet_imports("LoRA"):
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel
    adapted = copy.deepcopy(model)
    told = LoraConfig(r=rank, lora_alpha=int(alpha or 2 * rank), target_modules=list(_TARGETS), lora_dropout=0.0)
    tuner = LoraModel(cast("Any", adapted), {"default": told}, "default")

    def merged() -> GPT:
        plain = cast("GPT", tuner.merge_and_unload())
        return plain.requires_grad_(requires_grad=True).eval()

    return adapted, merged
