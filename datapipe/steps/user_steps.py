"""A user's own step: a Python function, named in a recipe by its file or module.

    steps: [decode, my_steps.py:no_drafts, {my_steps.py:long_enough: {min_chars: 200}}, company.cleaning:tidy]

What enters: a name with a colon. What leaves: a `StepSpec` like any other. The function takes the table, and the
`Keys` if it has a second parameter; its keyword-only parameters are the step's options. It gives the table back, rows
marked or columns changed, or a boolean array: the rows that stay.

Invariant: the step's version is a digest of its source file, so that an edit runs it anew. A file travels with the
run: workers elsewhere load a copy, so it can import installed packages, and no files beside it. A module must be
installed where the workers are.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError, StepError
from datapipe.steps.columns import mark
from datapipe.steps.options import UNSHOWN
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import ModuleType

    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

SOURCE: Final = "source"
"""The option that holds the path of the file: a resource, so that its content is part of every task key."""
_DECLARED: Final = "__datapipe_step__"


def declares(
    *,
    reasons: tuple[str, ...] = (),
    needs: tuple[str, ...] = (),
    gives: tuple[str, ...] = (),
    signals: tuple[str, ...] = (),
    counters: tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Say what a function marks and adds, where its name does not say it all.

    Args:
        reasons: words that it marks rows by; without any, its own name is the one reason.
        needs: columns it reads. gives: columns it adds or rewrites.
        signals, counters: as in `StepSpec`.

    Returns:
        A decorator that leaves the function as it is.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        setattr(
            function,
            _DECLARED,
            {"reasons": reasons, "needs": needs, "gives": gives, "signals": signals, "counters": counters},
        )
        return function

    return decorate


def is_user_step(name: str) -> bool:
    """Whether a step's name means a function of the user's."""
    return ":" in name


def user_spec(name: str, *, folder: str | Path | None = None, source: str | None = None) -> StepSpec:
    """The spec of a user's function.

    Args:
        name: "path/to/file.py:function", or "package.module:function".
        folder: what a relative path is relative to; None: the working folder.
        source: the file, where it is known to lie elsewhere (a worker's copy).

    Raises:
        ConfigError: there is no such file, module or function, or its parameters are none that a step can have.
    """
    place, _, called = name.rpartition(":")
    path = Path(source) if source is not None else _source_of(place, Path(folder or "."))
    function = _load(place, path, called)
    declared = getattr(function, _DECLARED, {})
    shown = f"{Path(place).name}:{called}" if place.endswith(".py") else name
    return StepSpec(
        name=shown,
        version=0,  # the content of the source file stands for it
        kind="map",
        options=_options_of(function, shown, path),
        build=functools.partial(_build, place, called, shown),
        summary=(inspect.getdoc(function) or shown).splitlines()[0],
        reasons=declared.get("reasons") or (called,),
        needs=declared.get("needs", ()),
        gives=declared.get("gives", ()),
        signals=declared.get("signals", ()),
        counters=declared.get("counters", ()),
        resources=(SOURCE,),
    )


def load_function(path: str, called: str) -> Callable[..., Any]:
    """A function of a Python file, loaded once per content of the file.

    Raises:
        ConfigError: the file cannot be loaded, or has no such function.
    """
    return _load(path if path.endswith(".py") else f"{path}.py", Path(path), called)


def _source_of(place: str, folder: Path) -> Path:
    if place.endswith(".py"):
        path = (folder / place).resolve()
        if not path.is_file():
            raise ConfigError(
                f"there is no file {path}",
                expected="file.py:function, the path relative to the recipe",
                fix="check the path",
            )
        return path
    try:
        found = importlib.util.find_spec(place)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"there is no module {place!r} ({error})", expected="an installed module") from None
    if found is None or found.origin is None or not Path(found.origin).is_file():
        raise ConfigError(
            f"there is no module {place!r}",
            expected="package.module:function of an installed package, or file.py:function",
            fix="install it, or name its file",
        )
    return Path(found.origin)


def _load(place: str, path: Path, called: str) -> Callable[..., Any]:
    module = _module(str(path), path.stat().st_mtime_ns) if place.endswith(".py") else importlib.import_module(place)
    function = getattr(module, called, None)
    if not callable(function):
        there = [each for each, value in vars(module).items() if inspect.isfunction(value) and not each.startswith("_")]
        raise ConfigError(
            f"{place} has no function {called!r}",
            expected=f"one of {', '.join(there)}" if there else "a function of the file",
            fix="check the name after the colon",
        )
    return typing.cast("Callable[..., Any]", function)


@functools.lru_cache(maxsize=32)
def _module(path: str, _changed_ns: int) -> ModuleType:
    """A file as a module of its own, loaded once per content."""
    loader = importlib.machinery.SourceFileLoader(f"datapipe_user_{abs(hash(path)):x}", path)
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module  # dataclasses and pickles of the module look it up
    try:
        loader.exec_module(module)
    except Exception as error:
        del sys.modules[loader.name]
        raise ConfigError(
            f"{Path(path).name} cannot be loaded: {type(error).__name__}: {error}",
            expected="a Python file that can be imported",
            fix="correct it; it may import installed packages, and no files beside it",
        ) from error
    return module


@functools.lru_cache(maxsize=64)
def _options_of(function: Callable[..., Any], name: str, path: Path) -> type[Any]:
    """The function's keyword-only parameters as a dataclass, and the path of its file."""
    try:
        hints = typing.get_type_hints(function)
    except Exception:
        hints = {}
    fields: list[tuple[str, Any, Any]] = [(SOURCE, str, dataclasses.field(default=str(path), metadata=UNSHOWN))]
    positional = 0
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            positional += 1
            continue
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is parameter.empty:
            raise ConfigError(
                f"{name} has a parameter {parameter}",
                expected="def step(table, keys, *, option=default): options are keyword-only, each with a default",
                fix=f"give {parameter.name} a default, after the *",
            )
        default = tuple(parameter.default) if isinstance(parameter.default, list) else parameter.default
        hint = hints.get(parameter.name, tuple[str, ...] if isinstance(default, tuple) else type(default))
        fields.append((parameter.name, hint, dataclasses.field(default=default)))
    if positional not in (1, 2):
        raise ConfigError(f"{name} takes {positional} tables", expected="def step(table) or def step(table, keys)")
    return dataclasses.make_dataclass("UserOptions", fields, frozen=True, kw_only=True)


def _build(place: str, called: str, name: str, options: Any) -> Step:
    import pyarrow as pa

    function = _load(place, Path(options.source), called)
    chosen = {each.name: getattr(options, each.name) for each in dataclasses.fields(options) if each.name != SOURCE}
    gives = getattr(function, _DECLARED, {}).get("gives", ())
    takes_keys = sum(p.kind is not p.KEYWORD_ONLY for p in inspect.signature(function).parameters.values()) > 1

    def step(table: pa.Table, keys: Keys) -> pa.Table:
        result = function(table, keys, **chosen) if takes_keys else function(table, **chosen)
        if isinstance(result, pa.Table):
            _check_types(table, result, gives, name)
            return result
        return _marked(table, result, called, name)

    return step


def _check_types(table: pa.Table, result: pa.Table, gives: Collection[str], name: str) -> None:
    """Refuse a column of another type that is not declared: later steps would read it as something else, or fail.

    Raises:
        StepError: there is one.
    """
    for field in result.schema:
        before = table.schema.field(field.name).type if field.name in table.column_names else field.type
        if field.type == before or field.name in gives or (_is_text(field.type) and _is_text(before)):
            continue
        raise StepError(
            f"{name} returned {field.name!r} as {field.type}; it was {before}",
            expected="columns of the types they had, but for those that the step declares",
            fix=f"cast it back, or name it: @declares(gives=({field.name!r},))",
        )


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _marked(table: pa.Table, result: Any, reason: str, name: str) -> Any:
    """What a function gave, as a step gives it: a boolean array says which rows stay."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        stays = result if isinstance(result, (pa.Array, pa.ChunkedArray)) else pa.array(result)
    except (pa.ArrowException, TypeError):
        return result  # whatever it is, the runner says that it is no table
    if not pa.types.is_boolean(stays.type) or len(stays) != table.num_rows or stays.null_count:
        raise StepError(
            f"{name} returned {len(stays)} values of type {stays.type} for {table.num_rows} rows",
            expected="a pyarrow.Table, or one true or false for each row",
            fix="correct the function",
        )
    reasons = pc.if_else(stays, pa.scalar(None, pa.string()), pa.scalar(reason))
    return mark(table, reasons.combine_chunks() if isinstance(reasons, pa.ChunkedArray) else reasons)
