"""How an option of a run is checked: a number in its range, a name among names, a mapping of plain values.

What enters: the option's name and value. What leaves: the value, or a ConfigError that names the option, says what was
expected and, for a name, which known one is nearest. Invariant: nothing is coerced that could hide a mistake: True is
no number, "3" is none either.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable


def whole(name: str, value: Any, low: int, below: int | None = None) -> None:
    """Refuse all but an int from `low` to under `below`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (below is not None and value >= below):
        raise ConfigError(
            f"TrainConfig({name}={value!r})",
            expected=f"a whole number from {low}" + ("" if below is None else f", below {_power(below)}"),
        )


def within(name: str, value: Any, *, above: float, upto: float = math.inf) -> None:
    """Refuse all but a finite number in (above, upto]; `above` just under 0 lets 0 in."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not above < value <= upto:
        kind = "above 0" if above == 0.0 else "from 0"
        raise ConfigError(
            f"TrainConfig({name}={value!r})",
            expected=f"a finite number {kind}" + ("" if math.isinf(upto) else f" to {upto:g}"),
        )


def one_of(name: str, value: Any, known: Iterable[str]) -> None:
    """Refuse a name that is not among the known ones."""
    names = list(known)
    if value not in names:
        raise ConfigError(
            f"TrainConfig({name}={value!r})", expected=f"one of {', '.join(names)}", fix=nearest(str(value), names)
        )


def plain_mapping(name: str, value: Any) -> dict[str, Any]:
    """A mapping from texts to what JSON can hold, copied, as JSON would give it back.

    Raises:
        ConfigError: it is none.
    """
    copied = None
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            copied = json.loads(json.dumps(dict(value), allow_nan=False))
    if not isinstance(copied, dict):
        raise ConfigError(f"TrainConfig({name}={value!r})", expected="a mapping of names to numbers, texts and lists")
    return copied


def nearest(name: str, known: Iterable[str]) -> str | None:
    """`did you mean …`, or None where nothing is close."""
    names = list(known)
    close = difflib.get_close_matches(name.lower(), [each.lower() for each in names], n=1, cutoff=0.6)
    return f"did you mean {next(each for each in names if each.lower() == close[0])!r}?" if close else None


def _power(number: int) -> str:
    return f"2**{number.bit_length() - 1}" if number > 1 << 20 and not number & (number - 1) else str(number)
