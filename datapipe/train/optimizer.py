"""AdamW: which weights decay, and its state as flat named tensors.

What enters: a model. What leaves: the optimizer, and `{"<parameter>/<moment>": tensor}` to save. Invariant: the names
are those of the model's parameters, so a state finds its way back whatever order they come in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from datapipe.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from datapipe.train.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW in two groups: matrices and embeddings decay, vectors (norms, biases) do not.

    Raises:
        ConfigError: nothing in the model is to be trained.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    if not trained:
        raise ConfigError("a model without a trainable parameter", fix="leave requires_grad=True on some")
    groups = [
        {"params": [weight for weight in trained if weight.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [weight for weight in trained if weight.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(weight.device.type in {"cpu", "cuda"} and weight.dtype.is_floating_point for weight in trained)
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=config.lr, betas=config.betas, eps=config.eps, fused=fused
    )


def state_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state, flat: `blocks.0.ffn.up.weight/exp_avg` and so on."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    return {
        f"{names[id(weight)]}/{key}": value
        for group in optimizer.param_groups
        for weight in group["params"]
        for key, value in optimizer.state[weight].items()
    }


def load_state_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put such a state back.

    Raises:
        CheckpointError: it is not of this model: a parameter is missing, unknown, or of another shape.
    """
    weights = dict(model.named_parameters())
    moments: dict[str, dict[str, Tensor]] = {}
    for flat, value in tensors.items():
        name, _, key = flat.rpartition("/")
        moments.setdefault(name, {})[key] = value
    known = {id(weight): name for name, weight in weights.items()}
    order = [known[id(weight)] for group in optimizer.param_groups for weight in group["params"]]
    faults = [f"no {name}" for name in order if tensors and name not in moments]
    faults += [f"{name} is unknown" for name in moments if name not in order]
    faults += [
        f"{name}/{key} {tuple(value.shape)}, here {tuple(weights[name].shape)}"
        for name in order
        for key, value in moments.get(name, {}).items()
        if key != "step" and value.shape != weights[name].shape
    ]
    if faults:
        raise CheckpointError(
            f"an optimizer state of another model: {'; '.join(faults[:4])}",
            expected="the state of the same parameters",
            fix='make the model as it was, or begin anew with resume="fresh"',
        )
    optimizer.load_state_dict(
        {
            "state": {place: moments[name] for place, name in enumerate(order) if name in moments},
            "param_groups": optimizer.state_dict()["param_groups"],
        }
    )
