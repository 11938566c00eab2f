"""The optimizer by its name in torch.optim.

What enters: a model and its config. What leaves: the optimizer. Invariant: every trained weight is in exactly one of
its groups.

`betas` and `eps` of the config go to the optimizers that have betas (Adam, AdamW, NAdam, RAdam, Adamax); what
`optimizer_options` says goes before. Where torch has a fused kernel for the device it is used: one pass over each
weight instead of several. SGD and Adam add weight decay to the gradient (L2); AdamW decouples it.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, cast

import torch

from datapipe.errors import ConfigError
from datapipe.train.config_checks import nearest
from datapipe.train.decay import parameter_groups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from datapipe.train.config import TrainConfig

_REFUSED: Final = {
    "LBFGS": (
        "a step of it evaluates the loss several times over its batches (torch's closure); a loader gives each once",
        'optimizer="adamw"; or all data in one batch, in a loop of your own',
    ),
    "SparseAdam": ("it takes sparse gradients alone, and dense layers have none", 'optimizer="adam"'),
}
_OURS: Final = ("lr", "weight_decay")
_FUSED_ON: Final = {"adagrad": ("cpu",)}
"""Where the fused kernel is, if not wherever torch has any ("Adagrad with fused=True", torch/optim/adagrad.py)."""
_FUSED: Final = ("cpu", "cuda")


def optimizer_names() -> dict[str, type[torch.optim.Optimizer]]:
    """The optimizers of this torch that the loop can step, by name in small letters."""
    found = {name: kind for name, kind in vars(torch.optim).items() if inspect.isclass(kind)}
    return {
        name.lower(): kind
        for name, kind in sorted(found.items())
        if issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer and name not in _REFUSED
    }


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer that the config names, over the groups of `parameter_groups`.

    Raises:
        ConfigError: it is unknown, or refused for a reason; an option is unknown or wrong; nothing is to be trained.
    """
    kind = _kind(config.optimizer)
    taken = list(inspect.signature(kind).parameters)[1:]
    options = _options(taken, config)
    groups = parameter_groups(model, decay=config.weight_decay, patterns=config.decay_groups)
    if "weight_decay" not in taken:
        if any(group["weight_decay"] for group in groups):
            raise ConfigError(
                f"optimizer={config.optimizer!r} with weight_decay={config.weight_decay}",
                expected=f"no weight decay: {kind.__name__} has none",
                fix="weight_decay=0, and no decay_groups",
            )
        groups = [{"params": [weight for group in groups for weight in group["params"]]}]
    groups = [part for group in groups for part in _of_one_mesh(group)]
    weights = [weight for group in groups for weight in group["params"]]
    where = _FUSED_ON.get(kind.__name__.lower(), _FUSED)
    if "fused" in taken and not options.keys() & {"fused", "foreach", "differentiable"}:
        options["fused"] = all(weight.device.type in where and weight.dtype.is_floating_point for weight in weights)
    try:
        made: torch.optim.Optimizer = cast("Any", kind)(groups, lr=config.lr, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"optimizer={config.optimizer!r} with {options}: {error}",
            expected=f"what torch.optim.{kind.__name__} takes",
            fix="change optimizer_options, or the optimizer",
        ) from error
    return made


def _of_one_mesh(group: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The group in parts: torch's fused and foreach kernels take tensors that are all plain, or all of one mesh."""
    parts: dict[Any, list[Any]] = {}
    for weight in group["params"]:
        parts.setdefault(getattr(weight, "device_mesh", None), []).append(weight)
    return [{**group, "params": weights} for weights in parts.values()]


def _kind(name: str) -> type[torch.optim.Optimizer]:
    for refused, (reason, instead) in _REFUSED.items():
        if name.lower() == refused.lower():
            raise ConfigError(f"optimizer={name!r}: {reason}", expected="one that takes a gradient", fix=instead)
    known = optimizer_names()
    if name.lower() not in known:
        raise ConfigError(
            f"optimizer={name!r}", expected=f"one of {', '.join(known)}", fix=nearest(name.lower(), known)
        )
    return known[name.lower()]


def _options(taken: list[str], config: TrainConfig) -> dict[str, Any]:
    """The arguments beside weights and rate: the config's betas and eps, then the user's own."""
    options: dict[str, Any] = {}
    if "betas" in taken:
        options = {"betas": config.betas, "eps": config.eps}
    for name, value in config.optimizer_options.items():
        if name in _OURS:
            raise ConfigError(
                f"optimizer_options has {name!r}",
                expected="what has no option of its own",
                fix=f"TrainConfig({name}=…)",
            )
        if name not in taken:
            free = [each for each in taken if each not in _OURS]
            raise ConfigError(
                f"optimizer={config.optimizer!r} has no option {name!r}",
                expected=f"one of {', '.join(free)}",
                fix=nearest(name, free),
            )
        options[name] = tuple(value) if isinstance(value, list) else value
    return options
