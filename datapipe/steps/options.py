"""Step options: a mapping from a recipe or the command line becomes a frozen dataclass, or a ConfigError.

What enters: plain values (str, int, float, bool, None, lists) by option name. What leaves: an instance of the step's
options dataclass, every value of exactly its declared type and within its range.
Invariant: `options_from(spec, plain_options(options)) == options`, and nothing is coerced that could hide a mistake:
True is no integer, "3" is no number, 3.0 is no integer. An integer is taken where a float is declared.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from typing import TYPE_CHECKING, Any

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from datapipe.steps.step import StepSpec


def options_from(spec: StepSpec, mapping: Mapping[str, Any]) -> Any:
    """The options of a step from plain values; what is not named keeps its default.

    Returns:
        An instance of `spec.options`.

    Raises:
        ConfigError: an unknown option (the nearest valid name is in the message), a value of another type or out of
            range.
    """
    hints = typing.get_type_hints(spec.options)
    names = [field.name for field in dataclasses.fields(spec.options)]
    values: dict[str, Any] = {}
    for name, value in mapping.items():
        if not isinstance(name, str) or name not in names:
            raise ConfigError(
                f"step {spec.name!r} has no option {name!r}",
                expected=f"one of {', '.join(names)}" if names else "no options at all",
                fix=nearest(str(name), names),
            )
        values[name] = _checked(f"{spec.name}.{name}", value, hints[name])
    return spec.options(**values)


def plain_options(options: Any) -> dict[str, Any]:
    """Options as JSON-able values (tuples become lists): what a plan prints and a task key digests."""
    plain = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        plain[field.name] = list(value) if isinstance(value, tuple) else value
    return plain


def nearest(name: str, names: Iterable[str]) -> str | None:
    """'did you mean …' for a name that is not among `names`, or None where nothing is close."""
    known = list(names)
    close = difflib.get_close_matches(name.lower(), [each.lower() for each in known], n=1, cutoff=0.5)
    if not close:
        # "gopher" is far from "gopher_quality@whitespace" by edit distance, near for a reader.
        close = [each.lower() for each in known if name and each.lower().startswith(name.lower())][:1]
    return f"did you mean {next(each for each in known if each.lower() == close[0])!r}?" if close else None


def in_range(
    name: str, value: float | None, low: float | None = None, high: float | None = None
) -> None:  # fmt: skip
    """Refuse an option outside [low, high]; for `__post_init__` of an options dataclass.

    Raises:
        ConfigError: the value is not finite or lies outside.
    """
    if value is None:
        return
    inside = math.isfinite(value) and (low is None or value >= low) and (high is None or value <= high)
    if not inside:
        bounds = " and ".join(
            part
            for part in (f"at least {low}" if low is not None else "", f"at most {high}" if high is not None else "")
            if part
        )
        raise ConfigError(f"{name} = {value!r}", expected=bounds or "a finite number", fix=f"change {name}")


def _checked(where: str, value: Any, hint: Any) -> Any:
    """The value, if it is of the declared type; the one conversion is int → float and list → tuple."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        arms = typing.get_args(hint)
        if value is None and type(None) in arms:
            return None
        for arm in arms:
            if arm is type(None):
                continue
            try:
                return _checked(where, value, arm)
            except ConfigError:
                continue
    elif origin is typing.Literal:
        allowed = typing.get_args(hint)
        # `True == 1`, so the type is compared too.
        if any(value == each and type(value) is type(each) for each in allowed):
            return value
        text = [str(each) for each in allowed]
        raise ConfigError(
            f"{where} = {value!r}", expected=f"one of {', '.join(map(repr, allowed))}", fix=nearest(str(value), text)
        )
    elif origin is tuple:
        if isinstance(value, (list, tuple)):
            element = typing.get_args(hint)[0]
            return tuple(_checked(f"{where}[{i}]", each, element) for i, each in enumerate(value))
    elif hint is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif type(value) is hint:
        return value
    raise ConfigError(
        f"{where} = {value!r} ({type(value).__name__})",
        expected=_spoken(hint),
        fix=f"write {where} as {_spoken(hint)}",
    )


def _spoken(hint: Any) -> str:
    """A type as a reader of a recipe would say it."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_spoken(arm) for arm in typing.get_args(hint))
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    if origin is tuple:
        return f"a list, each element {_spoken(typing.get_args(hint)[0])}"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): "null"}
    return words.get(hint, str(hint))
