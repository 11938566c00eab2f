"""Pruning, by torch.nn.utils.prune: the smallest weights set to zero, or whole channels taken out.

What enters: a trained GPT and a share. What leaves: `sparse`: a copy whose zeros stay zeros while it is trained on;
`narrower`: a GPT with fewer channels in its feed-forward layers. Invariant: of equal shares the weights or channels of
the lowest magnitude go; a narrower GPT computes what the whole one does with those channels at zero.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from datapipe.errors import ConfigError
from datapipe.train.model import GPT, Block

if TYPE_CHECKING:
    from collections.abc import Callable


def sparse(model: GPT, share: float) -> tuple[GPT, Callable[[], GPT]]:
    """(a copy with that share of its Linear weights at zero and held there, what makes it a plain GPT again).

    The smallest of all Linears together (Han 2015, arXiv:1506.02626; one threshold for all). The file does not get
    smaller, nor a dense product faster: it is what sparse formats and kernels begin from.

    Raises:
        ConfigError: the share is none.
    """
    _check(share)
    found = copy.deepcopy(model)
    layers = [(module, "weight") for module in found.modules() if isinstance(module, nn.Linear)]
    prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=share)

    def plain() -> GPT:
        for module, name in layers:
            prune.remove(module, name)  # type: ignore[no-untyped-call]  # torch ships it untyped
        return found.eval()

    return found, plain


def narrower(model: GPT, share: float) -> GPT:
    """A GPT without that share of the channels of each feed-forward layer.

    Those go whose weights (gate, value and output together) have the smallest sum of magnitudes (Li 2017,
    arXiv:1608.08710, section 3.1). What stays is rounded to a multiple of the heads, so that it can be dealt out.

    Raises:
        ConfigError: the share is none, or leaves no channel.
    """
    _check(share)
    whole, heads = model.config.ffn_width, model.config.heads
    left = round(whole * (1 - share) / heads) * heads
    if not 0 < left < whole:
        raise ConfigError(
            f"{share:g} of {whole} channels", expected=f"a share that leaves {heads} to {whole - heads}",
            fix=f"share={max(heads, whole // 2 // heads * heads) / whole:g}",
        )  # fmt: skip
    found = GPT(replace(model.config, hidden=left))
    weights = copy.deepcopy(model).state_dict()
    for at, block in enumerate(model.blocks):
        ffn = cast("Block", block).ffn
        gates, values = _halves(ffn.up.weight, ffn.group)
        kept = _kept(gates, values, ffn.out.weight, whole - left)
        small = cast("Block", found.blocks[at]).ffn
        weights[f"blocks.{at}.ffn.up.weight"] = _joined(gates[kept], values[kept], small.group)
        weights[f"blocks.{at}.ffn.out.weight"] = ffn.out.weight.detach()[:, kept].clone()
    found.load_state_dict(weights)
    return found.eval()


def _halves(up: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Rows of `up`, group by group gates then values → gates and values, each [channels, width]."""
    width = up.shape[1]
    gates, values = up.detach().reshape(-1, 2, group, width).unbind(1)
    return gates.reshape(-1, width), values.reshape(-1, width)


def _joined(gates: Tensor, values: Tensor, group: int) -> Tensor:
    width = gates.shape[1]
    pair = [half.reshape(-1, group, width) for half in (gates, values)]
    return torch.stack(pair, dim=1).reshape(-1, width)


def _kept(gates: Tensor, values: Tensor, out: Tensor, fewer: int) -> Tensor:
    """Places of the channels that stay, rising: all but the `fewer` of the smallest weights."""
    importance = gates.abs().sum(1) + values.abs().sum(1) + out.detach().abs().sum(0)
    holder = nn.Linear(out.shape[1], 1, bias=False)
    prune.ln_structured(  # type: ignore[no-untyped-call]
        holder, "weight", amount=fewer, n=1, dim=1, importance_scores=importance[None].cpu()
    )
    mask = cast("Tensor", holder.weight_mask)
    return mask[0].nonzero().flatten().to(out.device)


def _check(share: float) -> None:
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
        raise ConfigError(f"share={share!r}", expected="a number between 0 and 1")
