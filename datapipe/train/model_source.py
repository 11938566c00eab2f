"""The model by its place in the user's code: `module:callable` with arguments.

What enters: "mymodels:make_net" and its arguments. What leaves: an nn.Module that the loop can train. Invariant: it is
made where the loop calls it, after the generators were seeded, so that the run's seed alone decides the weights.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from datapipe.errors import ConfigError
from datapipe.train.config_checks import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn


@final
@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where a model comes from; call it to make one.

    Attributes:
        call: "module:callable", importable from the working folder. arguments: what it is called with, by name.
        loss, inputs, targets, scale: make it a `Supervised`; None: it has a `loss_sum` of its own.

    Raises:
        ConfigError: `call` is not of that form; columns without a loss, or a loss without columns.
    """

    call: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    loss: str | None = None
    inputs: str | Sequence[str] | Mapping[str, str] | None = None
    targets: str | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.call, str) or self.call.count(":") != 1 or not all(self.call.split(":")):
            raise ConfigError(f"model.call={self.call!r}", expected='"module:callable"', fix='"mymodels:make_net"')
        needed = {"loss": self.loss, "inputs": self.inputs, "targets": self.targets}
        missing = [name for name, value in needed.items() if value is None]
        if 0 < len(missing) < len(needed):
            raise ConfigError(
                f"model: {', '.join(missing)} missing",
                expected="loss, inputs and targets together; none of them for a model with its own loss_sum",
            )

    def __call__(self) -> nn.Module:
        """Import and call it.

        Raises:
            ConfigError: there is no such module or callable, it does not take the arguments, or makes no nn.Module.
        """
        from torch import nn

        make = load_callable(self.call, what="model.call")
        try:
            inspect.signature(make).bind(**self.arguments)
        except TypeError as error:
            names = [name for name in _names(make) if name not in self.arguments]
            wrong = next((name for name in self.arguments if name not in _names(make)), "")
            raise ConfigError(
                f"model.arguments of {self.call}: {error}",
                expected=f"{self.call}{inspect.signature(make)}",
                fix=nearest(wrong, names),
            ) from None
        except ValueError:
            pass  # a callable that does not say what it takes
        made = make(**self.arguments)
        if not isinstance(made, nn.Module):
            raise ConfigError(f"{self.call} made a {type(made).__name__}", expected="a torch.nn.Module")
        if self.loss is None:
            return made
        from datapipe.train.supervised import Supervised

        options: dict[str, Any] = {"inputs": self.inputs, "targets": self.targets, "loss": self.loss}
        return Supervised(made, **options, scale=self.scale)


def load_callable(source: str, *, what: str) -> Callable[..., Any]:
    """The callable of "module:callable"; the working folder is looked in first, as `python -m` does.

    Args:
        what: the option's name, for messages.

    Raises:
        ConfigError: there is none. What the module raises as it is imported passes through.
    """
    module, _, path = source.partition(":")
    here = os.getcwd()  # noqa: PTH109  (sys.path holds texts)
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there; what it imports is not
        raise ConfigError(
            f"{what}={source!r}: there is no module {error.name!r}",
            expected="a module that Python can import from here",
            fix=f"run in the folder that holds {module.partition('.')[0]}.py, or pip install it",
        ) from None
    for name in path.split("."):
        if not hasattr(found, name):
            known = [each for each in dir(found) if not each.startswith("_")]
            raise ConfigError(
                f"{what}={source!r}: {module} has no {name!r}",
                expected="a callable of that module",
                fix=nearest(name, known),
            )
        found = getattr(found, name)
    if not callable(found):
        raise ConfigError(f"{what}={source!r}: a {type(found).__name__}", expected="a callable")
    made: Callable[..., Any] = found
    return made


def _names(make: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(make).parameters)
