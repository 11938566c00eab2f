"""The `tune` section of a run's file, and runs' files with values put in.

    tune:
      budget: 10m                 seconds, or 90s, 10m, 2h: of all trials together
      trials: 20
      space:                      left out: what is around the file's own values
        lr: {low: 1e-4, high: 1e-2, log: true}
        batch_size: [16, 32, 64]
        loader.prefetch: [2, 8]   any section.option
      resource: seconds           or steps; first_rung, rungs, eta, pruner, seed: as of `TuneOptions`
      lr_range: {low: 1e-7, high: 10, steps: 100}      of --lr-range

What enters: a `TrainFile`. What leaves: `TuneOptions`, and files like it with other values. Invariant: the best one's
file differs from the user's by the values that were varied, and by nothing else; `datapipe train` reads it.
"""

from __future__ import annotations

import dataclasses
import os
import re
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.cli.train_file import TrainFile
    from datapipe.train import TrainConfig
    from datapipe.train.tuning import Choice, Range, TuneOptions

SHORT: Final = {
    "lr": "train.lr",
    "weight_decay": "train.weight_decay",
    "precision": "train.precision",
    "batch_size": "loader.batch_size",
    "threads": "loader.num_threads",
}
_SECTIONS: Final = ("train", "loader", "model")
_DECAY: Final = (0.01, 0.3)
"""What is usual for AdamW: 0.01 is torch's, 0.1 that of GPT-3 (arXiv:2005.14165, appendix B)."""
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}


def tune_options(told: TrainFile, config: TrainConfig, *, budget: str | None, trials: int | None) -> TuneOptions:
    """What the section says, with the command line's before it.

    Args:
        config: of the file, for what is around its values.

    Raises:
        RecipeError: an option is wrong; the message has its line. ConfigError: one of the command line's is.
    """
    from datapipe.train.tuning import TuneOptions, read_space

    given = {name: value for name, value in told.tune.items() if name != "lr_range"}
    known = {field.name for field in dataclasses.fields(TuneOptions)} - {"budget_s"} | {"budget"}
    unknown = [name for name in given if name not in known]
    if unknown:
        wrong = ConfigError(f"{unknown[0]}: no such option", expected=f"one of {', '.join(sorted(known))}")
        raise told.located(wrong, "tune")
    try:
        space = read_space(given.pop("space")) if given.get("space") is not None else default_space(told, config)
        given.pop("space", None)
        for name in space:
            path_of(name)
        limit = given.pop("budget", None) if budget is None else budget
        given.pop("budget", None)
        if limit is not None:
            given["budget_s"] = seconds(limit)
        if trials is not None:
            given["trials"] = trials
        return TuneOptions(space=space, **given)
    except ConfigError as error:
        raise told.located(error, "tune") from None


def seconds(text: object) -> float:
    """90, "90s", "10m" or "1.5h" in seconds.

    Raises:
        ConfigError: it is no such time.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", str(text).strip())
    if isinstance(text, bool) or found is None or float(found[1]) == 0:
        raise ConfigError(f"budget: {text!r}", expected="a time: 90s, 10m or 2h")
    return float(found[1]) * _UNITS[found[2]]


def path_of(name: str) -> tuple[str, str]:
    """(section, option) of a name of the space.

    Raises:
        ConfigError: it is neither short for one nor `section.option`.
    """
    section, dot, option = SHORT.get(name, name).partition(".")
    if not dot or not option or "." in option or section not in _SECTIONS:
        raise ConfigError(
            f"space: {name}: no such option",
            expected=f"{', '.join(SHORT)}, or section.option of {', '.join(_SECTIONS)}",
        )
    return section, option


def with_values(told: TrainFile, values: Mapping[str, Any]) -> TrainFile:
    """The file with those values in place of its own."""
    sections: dict[str, dict[str, Any]] = {name: dict(getattr(told, name)) for name in _SECTIONS}
    for name, value in values.items():
        section, option = path_of(name)
        sections[section][option] = value
    return dataclasses.replace(told, **sections)  # type: ignore[arg-type]  # each is the mapping that it was


def current_values(told: TrainFile, config: TrainConfig, space: Mapping[str, Any]) -> dict[str, Any]:
    """What the file itself says of the names of a space; those that it leaves to a default are told where known."""
    found = {}
    for name in space:
        section, option = path_of(name)
        values = getattr(told, section)
        if option in values:
            found[name] = values[option]
        elif section == "train" and hasattr(config, option):
            found[name] = getattr(config, option)
        elif name == "threads":
            found[name] = "auto"
    if found.get("precision") == "auto":
        found["precision"] = _precisions(config)[0]
    return found


def default_space(told: TrainFile, config: TrainConfig) -> dict[str, Range | Choice]:
    """Around the file's values: ten times the rate up and down, half and double the batch, and what the machine has."""
    from datapipe.train.tuning import Choice, Range

    batch = told.loader["batch_size"]
    low, high = _DECAY
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "lr": Range(low=config.lr / 10, high=config.lr * 10, log=True),
        "weight_decay": Range(low=min(low, config.weight_decay or low), high=max(high, config.weight_decay), log=True),
        "batch_size": Choice(values=tuple(dict.fromkeys((max(1, batch // 2), batch, 2 * batch)))),
        "threads": Choice(values=tuple(dict.fromkeys(("auto", 1, cores)))),
        "precision": Choice(values=_precisions(config)),
    }


def _precisions(config: TrainConfig) -> tuple[str, ...]:
    """Those that the device multiplies in hardware, what "auto" would take first."""
    from datapipe.train.precision import choose_device, choose_precision

    first = choose_precision("auto", choose_device(config.device))
    return (first,) if first == "fp32" else (first, "fp32")


def plain_file(told: TrainFile) -> dict[str, Any]:
    """The run as the YAML that `datapipe train` takes, without `tune`."""
    plain: dict[str, Any] = {"dataset": dict(told.dataset), "loader": dict(told.loader)}
    if told.evaluation is not None:
        plain["evaluation"] = {"dataset": dict(told.evaluation[0]), "loader": dict(told.evaluation[1])}
    plain |= {"model": dict(told.model), "train": dict(told.train)}
    if told.out is not None:
        plain["out"] = told.out
    if told.tensorboard:
        plain["tensorboard"] = True
    return plain
