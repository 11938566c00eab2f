"""`datapipe recipe` and `datapipe steps`: what there is to write a recipe with.

What enters: the name of a recipe or of a step, or none. What leaves: the recipe as YAML, or the step's facts, or the
names. Invariant: what is shown is read off the registry that runs use.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption

if TYPE_CHECKING:
    from datapipe.steps import StepSpec


def recipe(
    name: Annotated[str | None, typer.Argument(help="A shipped recipe's name; none: list them.")] = None,
    json: JsonOption = False,
) -> None:
    """Print a shipped recipe as YAML: save it, edit it, and name the file with --recipe.

    Example: datapipe recipe web > mine.yaml
    """
    from datapipe.errors import ConfigError
    from datapipe.preprocess import load_recipe, shipped_recipes

    names = shipped_recipes()
    if name is None:
        if json:
            console.emit({"ok": True, "recipes": list(names)})
        for each in () if json else names:
            console.show(f"{each:<8} {' → '.join(step.name for step in load_recipe(each).steps)}")
        return
    if name not in names:
        raise ConfigError(f"there is no recipe {name!r}", expected=f"one of {', '.join(names)}")
    text = (files("datapipe.preprocess") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    if json:
        console.emit({"ok": True, "name": name, "yaml": text, "recipe": load_recipe(name).as_dict()})
    else:
        console.show(text.rstrip("\n"))


def steps(
    name: Annotated[str | None, typer.Argument(help="A step's name; none: list them all.")] = None,
    json: JsonOption = False,
) -> None:
    """List the steps a recipe can have; with a name, its options, defaults, and the reasons it drops rows by.

    Example: datapipe steps gopher_quality@whitespace
    """
    from datapipe.steps import REGISTRY, find_step

    if name is None:
        if json:
            console.emit({"ok": True, "steps": {spec.name: spec.summary for spec in REGISTRY.values()}})
        else:
            console.show(console.table([(spec.name, spec.kind, spec.summary) for spec in REGISTRY.values()]))
        return
    spec = find_step(name)
    facts = description(spec)
    if json:
        console.emit({"ok": True, **facts})
        return
    console.show(f"{spec.name}: {spec.summary}")
    for word in ("needs", "gives", "reasons", "signals"):
        if facts[word]:
            console.show(f"  {word:<8} {', '.join(facts[word])}")
    if facts["options"]:
        console.show("  options")
        console.show(console.table([(f"    {o['name']}", o["type"], f"{o['default']!r}") for o in facts["options"]]))
    if facts["about"]:
        console.show(f"\n{facts['about']}")


def _nested(options: type[Any]) -> list[type[Any]]:
    """Dataclasses that options hold by name: what a column of a schema is."""
    hints = typing.get_type_hints(options).values()
    return [
        each
        for hint in hints
        for each in typing.get_args(hint)
        if isinstance(each, type) and dataclasses.is_dataclass(each)
    ]


def description(spec: StepSpec) -> dict[str, Any]:
    """The facts about a step, as JSON values."""
    from datapipe.steps import plain_options

    defaults = plain_options(spec.options())
    about = inspect.getdoc(spec.options) or ""
    # A dataclass without a docstring is given its signature as one.
    about = "" if about.startswith(f"{spec.options.__name__}(") else about
    about = "\n\n".join([about, *(inspect.getdoc(each) or "" for each in _nested(spec.options))]).strip()
    return {
        "name": spec.name,
        "kind": spec.kind,
        "version": spec.version,
        "summary": spec.summary,
        "needs": list(spec.needs),
        "gives": list(spec.gives),
        "reasons": list(spec.reasons),
        "signals": list(spec.signals),
        "options": [
            {"name": field.name, "type": str(field.type), "default": defaults[field.name]}
            for field in dataclasses.fields(spec.options)
        ],
        "about": about,
    }
