"""Which weights decay, and by how much: the optimizer's parameter groups.

What enters: a model, the rule's rate, the user's patterns. What leaves: groups for a torch optimizer. Invariant: every
weight that is trained is in exactly one group.

The rule: matrices, embeddings and kernels (two dimensions or more) decay; vectors and scalars (norms, biases) do not,
as in nanoGPT's `configure_optimizers` (karpathy/nanoGPT, model.py). A pattern that matches a name goes before it.
"""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any

from datapipe.errors import ConfigError
from datapipe.train.config_checks import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn


def parameter_groups(model: nn.Module, *, decay: float, patterns: Mapping[str, float]) -> list[dict[str, Any]]:
    """`[{"params": [...], "weight_decay": ...}, ...]`: the rule's two, then one a pattern; none is empty.

    Args:
        decay: of what has two dimensions or more. patterns: of names, as of a shell (`fnmatch`, case matters) → decay.

    Raises:
        ConfigError: nothing in the model is to be trained, or a pattern matches no weight that is.
    """
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    if not trained:
        raise ConfigError("a model without a trainable parameter", fix="leave requires_grad=True on some")
    matrices: list[Any] = []
    vectors: list[Any] = []
    own: dict[str, list[Any]] = {pattern: [] for pattern in patterns}
    for name, weight in trained.items():
        found = next((pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern)), None)
        (own[found] if found is not None else matrices if weight.ndim >= 2 else vectors).append(weight)
    for pattern, weights in own.items():
        if not weights and not any(fnmatch.fnmatchcase(name, pattern) for name in trained):
            raise ConfigError(
                f"decay_groups: no weight is called {pattern!r}",
                expected=f"a pattern of names like {next(iter(trained))}",
                fix=nearest(pattern, trained),
            )
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    groups += [{"params": weights, "weight_decay": patterns[pattern]} for pattern, weights in own.items()]
    return [group for group in groups if group["params"]]
