"""What a search may vary: a range or a list of values for each name.

What enters: plain data, as a YAML file gives it. What leaves: `Range`s and `Choice`s by name, and values drawn from
them by Optuna. Invariant: every value that is drawn lies in its range or list; a space that could not be drawn from is
refused before anything runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from optuna import Trial

_SHAPE: Final = "{low: 1e-4, high: 1e-2, log: true} or a list of values"


@final
@dataclass(frozen=True, kw_only=True)
class Range:
    """Any number from `low` to `high`, both included; `log`: evenly over its logarithm.

    Raises:
        ConfigError: it is empty, not finite, or a logarithmic one touches 0.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ConfigError(f"{name}={value!r} of a range", expected="a finite number")
        if not self.low < self.high:
            raise ConfigError(f"a range from {self.low:g} to {self.high:g}", expected="low below high")
        if not isinstance(self.log, bool):
            raise ConfigError(f"log={self.log!r} of a range", expected="true or false")
        if self.log and self.low <= 0:
            raise ConfigError(f"a logarithmic range from {self.low:g}", expected="low above 0", fix="log: false")


@final
@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of some values, each a number, a word or true or false.

    Raises:
        ConfigError: there are none, or one of another kind, or one twice.
    """

    values: tuple[float | int | str | bool, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ConfigError("a choice of no values", expected="one at least")
        for value in self.values:
            if not isinstance(value, (bool, int, float, str)) or (
                isinstance(value, float) and not math.isfinite(value)
            ):
                raise ConfigError(f"{value!r} among the values of a choice", expected="numbers, words, true or false")
        # 1 and True are equal and are not the same.
        if len({(type(value), value) for value in self.values}) < len(self.values):
            raise ConfigError(f"a value twice in {list(self.values)}", fix="give each once")


Space = Mapping[str, Range | Choice]


def read_space(plain: Any) -> Space:
    """The space of `{name: {low, high, log} | [values]}`.

    Raises:
        ConfigError: it is none; the message names the entry.
    """
    if not isinstance(plain, Mapping) or not plain:
        raise ConfigError(f"space: {plain!r}", expected=f"a name or more, each with {_SHAPE}")
    space: dict[str, Range | Choice] = {}
    for name, given in plain.items():
        if not isinstance(name, str):
            raise ConfigError(f"space: {name!r}", expected="names")
        try:
            space[name] = _one(given)
        except ConfigError as error:
            raise ConfigError(f"space.{name}: {error.got}", expected=error.expected, fix=error.fix) from None
    return space


def _one(given: Any) -> Range | Choice:
    if isinstance(given, (Range, Choice)):
        return given
    if isinstance(given, Mapping):
        unknown = [key for key in given if key not in {"low", "high", "log"}]
        if unknown or not {"low", "high"} <= set(given):
            raise ConfigError(f"{dict(given)!r}", expected=_SHAPE)
        return Range(**{key: _number(value) for key, value in given.items()})
    if isinstance(given, Sequence) and not isinstance(given, str):
        return Choice(values=tuple(given))
    raise ConfigError(f"{given!r}", expected=_SHAPE)


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-4, which has no point, as a word."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def plain_space(space: Space) -> dict[str, Any]:
    """Plain JSON, as `read_space` takes it."""
    return {
        name: asdict(part) if isinstance(part, Range) else list(part.values) for name, part in sorted(space.items())
    }


def contains(part: Range | Choice, value: Any) -> bool:
    """Whether the value could be drawn."""
    if isinstance(part, Choice):
        return any(type(value) is type(each) and value == each for each in part.values)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and part.low <= value <= part.high


def draw(trial: Trial, name: str, part: Range | Choice) -> Any:
    """A value for the trial: that which it has, else a new one."""
    if isinstance(part, Range):
        return trial.suggest_float(name, part.low, part.high, log=part.log)
    return trial.suggest_categorical(name, part.values)
