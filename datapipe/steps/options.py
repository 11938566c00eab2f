"""Step options: a mapping from a recipe or the command line becomes a frozen dataclass, or a ConfigError.

What enters: plain values (str, int, float, bool, None, lists) by option name. What leaves: an instance of the step's
options dataclass, every value of exactly its declared type and within its range.
Invariant: `options_from(spec, plain_options(options)) == options`, and nothing is coerced that could hide a mistake:
True is no integer, "3" is no number, 3.0 is no integer. An integer is taken where a float is declared.

An option may be nested: `ByName[X]` is given as a mapping from names (or as a list of [name, value], its plain form),
and X may be a dataclass of options of its own, given as a mapping; one with a `SHORT` may also be given as the value of
that field alone: `age: int32` for `age: {type: int32}`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError
from datapipe.steps.by_name import ByName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from datapipe.steps.step import StepSpec

UNSHOWN: Final[Mapping[Any, Any]] = MappingProxyType({"unshown": True})
"""Metadata of a field that is no option for people: taken, because a manifest may give it, and named in no message."""


def options_from(spec: StepSpec, mapping: Mapping[str, Any]) -> Any:
    """The options of a step from plain values; what is not named keeps its default.

    Returns:
        An instance of `spec.options`.

    Raises:
        ConfigError: an unknown option (the nearest valid name is in the message), a value of another type or out of
            range.
    """
    return _options(f"step {spec.name!r}", spec.name, mapping, spec.options)


def _options(what: str, where: str, mapping: Mapping[str, Any], kind: type[Any]) -> Any:
    """An instance of the dataclass `kind` from plain values."""
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    shown = [field.name for field in dataclasses.fields(kind) if field.metadata != UNSHOWN]
    values: dict[str, Any] = {}
    for name, value in mapping.items():
        if not isinstance(name, str) or name not in names:
            raise ConfigError(
                f"{what} has no option {name!r}",
                expected=f"one of {', '.join(shown)}" if shown else "no options at all",
                fix=nearest(str(name), shown),
            )
        values[name] = _checked(f"{where}.{name}", value, hints[name])
    return kind(**values)


def plain_options(options: Any) -> dict[str, Any]:
    """Options as JSON-able values (tuples become lists): what a plan prints and a task key digests."""
    return {field.name: _plain(getattr(options, field.name)) for field in dataclasses.fields(options)}


def _plain(value: Any) -> Any:
    if isinstance(value, ByName):
        return [[name, _plain(each)] for name, each in value.items()]
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return plain_options(value) if dataclasses.is_dataclass(value) else value


def nearest(name: str, names: Iterable[str]) -> str | None:
    """'did you mean …' for a name that is not among `names`, or None where nothing is close."""
    known = list(names)
    close = difflib.get_close_matches(name.lower(), [each.lower() for each in known], n=1, cutoff=0.6)
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
        if isinstance(value, Mapping) and len(kinds := [arm for arm in arms if dataclasses.is_dataclass(arm)]) == 1:
            return _checked(where, value, kinds[0])  # what is wrong in it is said
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
    elif origin is ByName:
        if (pairs := _pairs(value)) is not None:
            element = typing.get_args(hint)[0]
            return _by_name(where, {name: _checked(f"{where}.{name}", each, element) for name, each in pairs}, pairs)
    elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        if isinstance(value, Mapping):
            return _options(where, where, value, hint)
        short = getattr(hint, "SHORT", None)
        if short is not None and not isinstance(value, (list, tuple)):
            return _options(where, where, {short: value}, hint)
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


def _pairs(value: Any) -> list[tuple[str, Any]] | None:
    """The (name, value) pairs of a mapping, or of a list of them; None where it is neither."""
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, (list, tuple)) and all(isinstance(each, (list, tuple)) and len(each) == 2 for each in value):
        pairs = [(each[0], each[1]) for each in value]
    else:
        return None
    return pairs if all(isinstance(name, str) and name for name, _ in pairs) else None


def _by_name(where: str, found: dict[str, Any], pairs: list[tuple[str, Any]]) -> ByName[Any]:
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"{where} names {twice!r} twice", expected="each name once", fix="remove one of them")
    return ByName(found)


def _spoken(hint: Any) -> str:
    """A type as a reader of a recipe would say it."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_spoken(arm) for arm in typing.get_args(hint))
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    if origin is ByName:
        return f"a mapping from names, each value {_spoken(typing.get_args(hint)[0])}"
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        names = ", ".join(field.name for field in dataclasses.fields(hint))
        short = typing.get_type_hints(hint).get(getattr(hint, "SHORT", ""))
        return (f"{_spoken(short)}, or " if short is not None else "") + f"a mapping with some of {names}"
    if origin is tuple:
        return f"a list, each element {_spoken(typing.get_args(hint)[0])}"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): "null"}
    return words.get(hint, str(hint))
