"""The layers that a model repeats: what is recomputed, compiled and sharded one by one.

What enters: a model. What leaves: its repeated layers, or the same model with their forward changed in place.
Invariant: no module is replaced and no parameter renamed, so checkpoints do not depend on any of this; the numbers are
those of the plain layer (recomputation: to the last bit; compilation: to rounding).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from datapipe.errors import ConfigError, TrainError, in_words

if TYPE_CHECKING:
    from collections.abc import Iterator


def repeated_layers(model: nn.Module) -> list[nn.Module]:
    """The entries of the model's outermost nn.ModuleList and nn.ModuleDict, in order."""
    found: list[nn.Module] = []
    for child in model.children():
        if isinstance(child, nn.ModuleList):
            found += list(child)
        elif isinstance(child, nn.ModuleDict):
            found += list(child.values())
        else:
            found += repeated_layers(child)
    return found


def recompute(model: nn.Module) -> None:
    """Activation checkpointing: keep each layer's input alone, and compute the layer again in the backward pass.

    Memory for activations falls from all that is inside the layers to one input a layer, for one more forward pass
    (arXiv:1604.06174). Random numbers inside a layer are the same both times.

    Raises:
        ConfigError: the model repeats no layer.
    """
    for layer in _layers(model, "recompute"):
        layer.forward = _recomputed(layer.forward)  # in place: see the invariant


def _recomputed(forward: Any) -> Any:
    def recomputed(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return recomputed


def compile_layers(model: nn.Module) -> None:
    """torch.compile each repeated layer: once for all that are alike, where the whole model would be traced at length.

    Nothing is compiled before the first batch; `compiling` says what went wrong then.

    Raises:
        ConfigError: the model repeats no layer.
    """
    for layer in _layers(model, "compile"):
        layer.compile()


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Turn a failed compilation inside the block into a TrainError that says what to do."""
    try:
        yield
    except Exception as error:
        # torch._dynamo and torch._inductor have no error of one public kind.
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        raise TrainError(
            f"torch.compile failed: {in_words(error)}",
            expected="a compiler that works: g++ or clang++ on a CPU, Triton on a GPU, and Python's headers",
            fix="install it (apt-get install g++ python3-dev), or compile=False",
        ) from error


def _layers(model: nn.Module, option: str) -> list[nn.Module]:
    found = repeated_layers(model)
    if not found:
        raise ConfigError(
            f"{option}=True for a {type(model).__name__}, which repeats no layer",
            expected="its layers in an nn.ModuleList",
            fix=f"{option}=False, or nn.ModuleList for the layers",
        )
    return found
