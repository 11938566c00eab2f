"""Tensor parallelism: every layer's matrices cut over a few ranks, which compute each batch together.

What enters: a model that says how it is cut (`parallel_plan()`), and the mesh of the ranks that share it. What leaves:
the same model with DTensor parameters of the same names and global shapes; between the layers activations are whole
and alike on all of them. Invariant: cutting changes rounding alone. Parameters that the plan does not name stay whole,
and get the same gradient on every rank of the mesh.
"""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any, Protocol, cast

from datapipe.errors import ConfigError
from datapipe.train.model import GPT

if TYPE_CHECKING:
    from torch import nn
    from torch.distributed.device_mesh import DeviceMesh


class Cuttable(Protocol):
    """What tensor parallelism asks of a model."""

    def parallel_plan(self) -> dict[str, Any]:
        """Pattern of module names → how that one is cut, as torch's `parallelize_module` takes it."""


def cut(model: nn.Module, mesh: DeviceMesh) -> None:
    """Cut a model over the ranks of a one-dimensional mesh, in place.

    Raises:
        ConfigError: it does not say how, its plan names nothing in it, or it does not divide by the ranks.
    """
    from torch.distributed.tensor.parallel import parallelize_module

    plan = plan_of(model)
    if isinstance(model, GPT):
        _check_division(model, mesh.size())
    parallelize_module(model, mesh, plan)


def plan_of(model: nn.Module) -> dict[str, Any]:
    """The model's own plan, or for `GPT` ours: heads and feed-forward groups dealt out, norms and embedding whole.

    The fused layers' rows lie head by head and group by group (`model.group_rows`), so a contiguous cut is a whole one.

    Raises:
        ConfigError: there is none, or it names nothing in the model.
    """
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel

    if isinstance(model, GPT):
        return {
            "blocks.*.attention.qkv": ColwiseParallel(),
            "blocks.*.attention.out": RowwiseParallel(),
            "blocks.*.ffn.up": ColwiseParallel(),
            "blocks.*.ffn.out": RowwiseParallel(),
        }
    if not callable(getattr(model, "parallel_plan", None)):
        raise ConfigError(
            f"Layout(tensor=…) for a {type(model).__name__}, which does not say how it is cut",
            expected="a method parallel_plan() → {pattern of module names: ColwiseParallel(), …}",
            fix="write it, or use Layout(shard=…), which cuts any model",
        )
    plan = cast("Cuttable", model).parallel_plan()
    names = [name for name, _ in model.named_modules() if name]
    for pattern in plan:
        if not fnmatch.filter(names, pattern):
            raise ConfigError(
                f"{type(model).__name__}.parallel_plan() names {pattern!r}, and no module has such a name",
                expected=f"one of {', '.join(names[:8])}" + (", …" if len(names) > 8 else ""),
            )
    return plan


def _check_division(model: GPT, ranks: int) -> None:
    config = model.config
    if config.heads % ranks:
        raise ConfigError(
            f"{config.heads} heads over Layout(tensor={ranks})",
            expected="a whole number of heads a rank",
            fix=f"GPTConfig(heads={-(-config.heads // ranks) * ranks}), or another tensor=",
        )
    if config.ffn_groups % ranks:
        raise ConfigError(
            f"a feed-forward layer of {config.ffn_width} channels in {config.ffn_groups} groups over"
            f" Layout(tensor={ranks})",
            expected="as many groups as divide by the ranks: the common divisor of hidden and heads",
            fix=f"GPTConfig(hidden={-(-config.ffn_width // config.heads) * config.heads})",
        )
