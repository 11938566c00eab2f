"""A scheduler of torch.optim.lr_scheduler as a pure function of the step.

What enters: its name and arguments. What leaves: step → rate. Invariant: as of torch, whichever steps are asked for and
in which order: a resumed run walks through the rates before (2 µs each) once, and saves nothing.

After `warmup` steps of a straight rise it begins; where it asks for the length or the peak (`total_steps`, `T_max`,
`total_iters`, `max_lr`), what is left of the run and `lr` are given unless the options say otherwise.
"""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any, Final, final

import torch
from torch.optim import lr_scheduler

from datapipe.errors import ConfigError
from datapipe.train.config_checks import nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.train.config import TrainConfig

_REFUSED: Final = {
    "ReduceLROnPlateau": "it follows the losses, so its rate is no function of the step; use `patience`",
    "LambdaLR": "it takes a function; write a schedule in a loop of your own",
    "MultiplicativeLR": "it takes a function; write a schedule in a loop of your own",
    "SequentialLR": "it takes schedulers; `warmup` is before each, and wsd has three parts",
    "ChainedScheduler": "it takes schedulers; `warmup` is before each, and wsd has three parts",
}
_PRIVATE: Final = ("optimizer", "last_epoch", "verbose", "cycle_momentum", "base_momentum", "max_momentum")


def torch_schedule(config: TrainConfig, *, ours: tuple[str, ...]) -> Callable[[int], float]:
    """Step, from 0 → rate.

    Args:
        ours: names that are known beside torch's, for the message.

    Raises:
        ConfigError: no such scheduler; one that is no function of the step; an argument it does not take.
    """
    kind = _kind(config.schedule, ours)
    taken = [name for name in inspect.signature(kind).parameters if name not in _PRIVATE]
    for name in config.schedule_options:
        if name not in taken:
            raise ConfigError(
                f"schedule={config.schedule!r} has no option {name!r}",
                expected=f"one of {', '.join(taken)}",
                fix=nearest(name, taken),
            )
    left = max(1, config.steps - config.warmup)
    known: dict[str, Any] = {"total_steps": left, "T_max": left, "max_lr": config.lr}
    if "total_iters" in taken and kind is lr_scheduler.PolynomialLR:
        known["total_iters"] = left
    if config.schedule_options.keys() & {"epochs", "steps_per_epoch"}:
        del known["total_steps"]
    options = {name: value for name, value in known.items() if name in taken} | dict(config.schedule_options)
    if "cycle_momentum" in inspect.signature(kind).parameters:
        options["cycle_momentum"] = False  # the rate alone is scheduled here
    walk = _Walk(kind, options, config)

    def rate(step: int) -> float:
        return config.lr * (step + 1) / config.warmup if step < config.warmup else walk.at(step - config.warmup)

    return rate


def _kind(name: str, ours: tuple[str, ...]) -> Any:
    found = {
        each.lower(): kind
        for each, kind in vars(lr_scheduler).items()
        if inspect.isclass(kind) and issubclass(kind, lr_scheduler.LRScheduler) and each.endswith(("LR", "Restarts"))
    }
    found.pop("_lrscheduler", None)
    for refused, reason in _REFUSED.items():
        if name.lower() == refused.lower():
            raise ConfigError(f"schedule={name!r}: {reason}", expected=f"one of {', '.join(ours)}, or another of torch")
        found.pop(refused.lower(), None)
    if name.lower() not in found:
        names = [*ours, *(kind.__name__ for kind in found.values())]
        raise ConfigError(f"schedule={name!r}", expected=f"one of {', '.join(names)}", fix=nearest(name, names))
    return found[name.lower()]


@final
class _Walk:
    """The rates of a scheduler, made as far as they were asked for."""

    def __init__(self, kind: Any, options: dict[str, Any], config: TrainConfig) -> None:
        # Momentum is there for those that look for it; nothing is ever updated.
        self._optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=config.lr, momentum=0.9)
        self._last = max(0, config.steps - config.warmup)
        self._rates: list[float] = []
        try:
            self._scheduler = kind(self._optimizer, **options)
            self._rates.append(self._now())
            self.at(1)  # an argument of a wrong type may only be found by a step
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ConfigError(
                f"schedule={config.schedule!r} with {options}: {error}", fix="change schedule_options"
            ) from error

    def at(self, step: int) -> float:
        """The rate of a step; past the run's end the last one, since some of torch's end with an error there."""
        step = min(step, max(0, self._last - 1))
        while len(self._rates) <= step:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "scheduler before optimizer.step": there is nothing to step
                self._scheduler.step()
            self._rates.append(self._now())
        return self._rates[step]

    def _now(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"])
