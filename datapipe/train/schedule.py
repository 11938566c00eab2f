"""The learning rate: a pure function of the step, so there is nothing of it to save.

What enters: a step, counted from 0. What leaves: the rate of that step's update. Invariant: never above the peak, never
0 or below before the last step (torch's own schedulers apart), and the same wherever the run was stopped.

Each begins with `warmup` steps of a straight rise to the peak; then, by name:

    cosine      half a cosine down to the floor (arXiv:1608.03983, without restarts)
    linear      straight down to the floor
    constant    stays at the peak
    wsd         stays there, then falls over the last `decay` (0.2) of the run (warmup-stable-decay, arXiv:2404.06395):
                `shape` "sqrt", 1 - sqrt (arXiv:2405.18392, section 3, found better than a straight line), or "linear"
    step        falls to `gamma` (0.1) of itself every `every` steps, or at each of `at`; never below the floor
    OneCycleLR  and others of torch.optim.lr_scheduler, see `datapipe.train.torch_schedule`
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError
from datapipe.train.config_checks import nearest, one_of, whole, within

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.train.config import TrainConfig

_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "cosine": {},
    "linear": {},
    "constant": {},
    "wsd": {"decay": 0.2, "shape": "sqrt"},
    "step": {"every": None, "at": None, "gamma": 0.1},
}


def make_schedule(config: TrainConfig) -> Callable[[int], float]:
    """The rate of each step, counted from 0.

    Raises:
        ConfigError: the schedule or an option of it is unknown, or wrong.
    """
    if config.schedule.lower() not in _OPTIONS:
        from datapipe.train.torch_schedule import torch_schedule

        return torch_schedule(config, ours=tuple(_OPTIONS))
    name = config.schedule.lower()
    share = _share(name, _checked(name, config), config)

    def rate(step: int) -> float:
        return learning_rate(
            step, peak=config.lr, warmup=config.warmup, steps=config.steps, floor=config.lr_floor, share=share
        )

    return rate


def learning_rate(
    step: int, *, peak: float, warmup: int, steps: int, floor: float = 0.1,
    share: Callable[[float, int], float] | None = None,
) -> float:  # fmt: skip
    """Linear warm-up, then `share` of the way from the peak down to `floor` of it; None: half a cosine.

    Args:
        step: from 0. Step `warmup - 1` is the first at the peak; step `steps - 1`, the last, is at the floor.
        peak: the highest rate.
        warmup: steps of the rise; 0: begin at the peak.
        steps: of the whole run; later ones stay at the floor.
        floor: the last rate as a share of the peak.
        share: (how much of what follows the warm-up is done, in [0, 1]; steps since it) → what is left, in [0, 1].
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    since = max(0, warmup - 1)
    span = steps - 1 - since
    done = 1.0 if span <= 0 else min(1.0, (step - since) / span)
    left = 0.5 * (1 + math.cos(math.pi * done)) if share is None else share(done, step - warmup)
    return peak * (floor + (1 - floor) * left)


def _share(name: str, options: dict[str, Any], config: TrainConfig) -> Callable[[float, int], float] | None:
    if name == "linear":
        return lambda done, _: 1 - done
    if name == "constant":
        return lambda _, __: 1.0
    if name == "wsd":
        decay, root = options["decay"], options["shape"] == "sqrt"

        def cooled(done: float, _: int) -> float:
            way = max(0.0, (done - (1 - decay)) / decay)
            return 1 - (math.sqrt(way) if root else way)

        return cooled
    if name == "step":
        every, at, gamma, floor = options["every"], options["at"], options["gamma"], config.lr_floor

        def stepped(_: float, since: int) -> float:
            falls = since // every if every else sum(since + config.warmup >= each for each in at)
            # `learning_rate` keeps the floor's share apart; here the rate itself falls, down to the floor.
            left: float = max(0.0, gamma**falls - floor) / (1 - floor) if floor < 1 else 1.0
            return left

        return stepped
    return None


def _checked(name: str, config: TrainConfig) -> dict[str, Any]:
    """The schedule's options with their defaults."""
    known = _OPTIONS[name]
    for option in config.schedule_options:
        if option not in known:
            raise ConfigError(
                f"schedule={config.schedule!r} has no option {option!r}",
                expected=f"one of {', '.join(known)}" if known else "none",
                fix=nearest(option, known),
            )
    options = known | dict(config.schedule_options)
    if name == "wsd":
        within("schedule_options: decay", options["decay"], above=0.0, upto=1.0)
        one_of("schedule_options: shape", options["shape"], ("sqrt", "linear"))
    if name == "step":
        within("schedule_options: gamma", options["gamma"], above=0.0, upto=1.0)
        if (options["every"] is None) == (options["at"] is None):
            raise ConfigError(
                'schedule="step" needs `every` or `at`', expected="one of them", fix='schedule_options={"every": 1000}'
            )
        for each in options["at"] if isinstance(options["at"], list) else [options["every"]]:
            whole("schedule_options: every, at", each, 1)
    return options
