"""A model's and its optimizer's tensors under the names that the plain model gives them.

What enters: a model, perhaps wrapped (DDP, torch.compile, activation checkpointing) or sharded (DTensors), and its
optimizer. What leaves: `model/<name>` and `optimizer/<parameter>/<moment>` → the live tensor. Invariant: the names do
not depend on wrapping, sharding or the order of the parameters, so what one layout saved another one loads; of tied
weights the first name alone is there.

torch.distributed.checkpoint.state_dict gives such names too, but steps the optimizer once with gradients of zero
where it has no state yet, which leaves Adam's count at 1; and pickles the parameter groups, which the config holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from datapipe.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from torch import Tensor, nn

_WRAPPERS: Final = ("_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module.")


def plain_name(name: str) -> str:
    """A parameter's name without what compilation and activation checkpointing put into it."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel."""
    while isinstance(model, torch.nn.parallel.DistributedDataParallel):
        model = model.module
    return model


def model_state(model: nn.Module, *, known: Container[str] = ()) -> dict[str, Tensor]:
    """Parameters and persistent buffers, live: `model/<name>` → tensor.

    Args:
        known: of tied weights, take a name that is in it, if one is.

    Raises:
        CheckpointError: the model's state has something else in it.
    """
    found: dict[str, Tensor] = {}
    seen: dict[int, str] = {}
    for name, value in unwrapped(model).state_dict(keep_vars=True).items():
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"{name} of the model's state is a {type(value).__name__}",
                expected="tensors alone: nothing is pickled into a checkpoint",
                fix="register it as a buffer, or make it anew when the model is made",
            )
        full = f"model/{plain_name(name)}"
        before = seen.get(id(value))
        if before is None or (before not in known and full in known):
            found.pop(before or "", None)
            seen[id(value)] = full
            found[full] = value
    return found


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimizer keeps for each parameter, live: `optimizer/<parameter>/<moment>` → tensor.

    Raises:
        CheckpointError: it keeps something that is no tensor.
    """
    names = _names(model)
    found: dict[str, Tensor] = {}
    for weight in (weight for group in optimizer.param_groups for weight in group["params"]):
        for key, value in optimizer.state.get(weight, {}).items():
            if value is None:
                continue
            if not isinstance(value, torch.Tensor):
                raise CheckpointError(
                    f"{type(optimizer).__name__} keeps {key}, a {type(value).__name__}",
                    expected="tensors alone: nothing is pickled into a checkpoint",
                    fix="another optimizer, or one that keeps it as a tensor",
                )
            found[f"optimizer/{names[id(weight)]}/{key}"] = value
    return found


def empty_optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, index: Mapping[str, Any], dtypes: Mapping[str, torch.dtype]
) -> dict[str, Tensor]:
    """Room for what an index has of this optimizer's parameters: moments lie and are sharded as their parameter is.

    Args:
        index: `optimizer/<parameter>/<moment>` → `{"dtype", "shape"}`. dtypes: its names of them.
    """
    names = _names(model)
    trained = {names[id(weight)]: weight for group in optimizer.param_groups for weight in group["params"]}
    room: dict[str, Tensor] = {}
    for full, entry in index.items():
        part, _, flat = full.partition("/")
        name, _, _ = flat.rpartition("/")
        if part != "optimizer" or name not in trained:
            continue
        like, dtype = trained[name].detach(), dtypes[entry["dtype"]]
        alike = list(like.shape) == entry["shape"]
        room[full] = torch.zeros_like(like, dtype=dtype) if alike else torch.zeros(entry["shape"], dtype=dtype)
    return room


def put_optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimizer its state: `optimizer/<parameter>/<moment>` → tensor, laid out as the parameters are."""
    names = _names(model)
    order = [names[id(weight)] for group in optimizer.param_groups for weight in group["params"]]
    moments: dict[str, dict[str, Tensor]] = {}
    for full, value in tensors.items():
        name, _, key = full.partition("/")[2].rpartition("/")
        moments.setdefault(name, {})[key] = value
    optimizer.load_state_dict(
        {
            "state": {place: moments[name] for place, name in enumerate(order) if name in moments},
            "param_groups": optimizer.state_dict()["param_groups"],
        }
    )


def _names(model: nn.Module) -> dict[int, str]:
    return {id(weight): plain_name(name) for name, weight in unwrapped(model).named_parameters()}
