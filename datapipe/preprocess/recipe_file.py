"""Reading recipes: YAML (shipped or the user's) and overrides become a checked `Recipe`.

    name: text
    seed: 0
    input: {text_column: text}
    steps: [decode, {tokenize: {tokenizer: my.json}}]
    output: {row_group_rows: 256}

What enters: a shipped recipe's name, a file, or a mapping. What leaves: a `Recipe`.
Invariant: every fault is a RecipeError that names the file, the line and the nearest valid name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError, RecipeError
from datapipe.preprocess.recipe import InputSettings, OutputSettings, Recipe, RecipeStep
from datapipe.preprocess.yaml_nodes import Node, parse_value, parse_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable

    from datapipe.steps import StepSpec

SECTIONS: Final = ("name", "seed", "input", "steps", "output")


@cache
def shipped_recipes() -> tuple[str, ...]:
    """Names of the recipes that come with datapipe."""
    folder = files("datapipe.preprocess") / "recipes"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def load_recipe(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe = "text", overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """A recipe by name, from a YAML file, or from a mapping of the same shape.

    Args:
        overrides: plain values by "step.option", "input.option", "output.option" or "seed". A step may be called
            without its "@variant" where only one is in the recipe.

    Raises:
        RecipeError: the file is missing or wrong; the message names its line.
        ConfigError: an override names nothing, or its value is wrong.
    """
    if isinstance(recipe, Recipe):
        loaded = recipe
    elif isinstance(recipe, Mapping):
        loaded = _recipe(_as_nodes(recipe), "recipe", folder=None)
    else:
        text, where, folder = _find(os.fspath(recipe))
        loaded = _recipe(parse_yaml(text, where=where), where, folder=folder)
    together: dict[str, dict[str, Any]] = {}
    for key, value in (overrides or {}).items():
        # What belongs together is checked together: a join's files make no sense before its key is said.
        together.setdefault(key.rpartition(".")[0] or key, {})[key] = value
    for values in together.values():
        loaded = _override(loaded, values)
    return loaded


def parse_overrides(items: Iterable[str], *, example: str = "pack.seq_len=512") -> dict[str, Any]:
    """`step.option=value` texts, as the command line gives them, with values read as YAML; `example`: for messages.

    Raises:
        ConfigError: a text without '=', or the same key twice.
    """
    found: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"--set {item}", expected="name.option=value", fix=f"for example --set {example}")
        if key in found:
            raise ConfigError(f"--set {key} is given twice", fix="remove one of them")
        try:
            found[key] = parse_value(value)
        except RecipeError as error:
            raise ConfigError(f"--set {item}: {error.got}", expected=error.expected, fix=error.fix) from None
    return found


def _find(recipe: str) -> tuple[str, str, Path | None]:
    """(text, name for messages, folder that its paths are relative to)."""
    if recipe in shipped_recipes():
        return (files("datapipe.preprocess") / "recipes" / f"{recipe}.yaml").read_text("utf-8"), f"{recipe}.yaml", None
    path = Path(recipe)
    try:
        return path.read_bytes().decode("utf-8"), recipe, path.parent
    except FileNotFoundError:
        from datapipe.steps.options import nearest

        raise RecipeError(
            f"there is no recipe {recipe!r}",
            expected=f"a shipped recipe ({', '.join(shipped_recipes())}) or a YAML file",
            fix=nearest(recipe, shipped_recipes()),
        ) from None
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{recipe}: not UTF-8 ({error.reason} at byte {error.start})", expected="a YAML file"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"{recipe}: cannot be read ({reason})", expected="a YAML file") from None


def _as_nodes(value: Any) -> Node:
    if isinstance(value, Mapping):
        return Node({str(key): _as_nodes(each) for key, each in value.items()}, 0)
    if isinstance(value, (list, tuple)):
        return Node([_as_nodes(each) for each in value], 0)
    return Node(value, 0)


def _at(where: str, line: int) -> str:
    return f"{where}:{line}" if line else where


def _recipe(root: Node, where: str, *, folder: Path | None) -> Recipe:
    from datapipe.steps.options import nearest

    if not isinstance(root.value, dict):
        raise RecipeError(f"{_at(where, root.line)}: not a mapping", expected=f"keys {', '.join(SECTIONS)}")
    for name, node in root.value.items():
        if name not in SECTIONS:
            raise RecipeError(
                f"{_at(where, node.line)}: {name!r}",
                expected=f"one of {', '.join(SECTIONS)}",
                fix=nearest(name, SECTIONS) or "remove it",
            )
    steps = root.value.get("steps")
    # An empty list is a recipe: it makes shards and a manifest of what is there.
    if steps is None or not isinstance(steps.value, list):
        line = steps.line if steps is not None else root.line
        raise RecipeError(
            f"{_at(where, line)}: no steps",
            expected="a list of steps under `steps:`",
            fix="see the shipped recipe text; [] for none: shards of the rows as they are",
        )
    name = root.value.get("name", Node("recipe", 0))
    seed = root.value.get("seed", Node(0, 0))
    if not isinstance(name.value, str):
        raise RecipeError(f"{_at(where, name.line)}: name = {name.plain()!r}", expected="a text")
    _check_seed(seed.value, _at(where, seed.line) + ": ")
    return Recipe(
        name=name.value,
        seed=seed.value,
        input=_section("input", InputSettings, root.value.get("input"), where),
        steps=tuple(_step(node, where, folder) for node in steps.value),
        output=_section("output", OutputSettings, root.value.get("output"), where),
    )


def _check_seed(seed: Any, place: str = "") -> None:
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 63:
        raise RecipeError(f"{place}seed = {seed!r}", expected="a whole number from 0 to 2^63 - 1")


def _step(node: Node, where: str, folder: Path | None) -> RecipeStep:
    """`decode`, or `{decode: {option: value}}`."""
    from datapipe.steps import find_step

    here = _at(where, node.line)
    name, options = node.value, None
    if isinstance(node.value, dict) and len(node.value) == 1:
        ((name, options),) = node.value.items()
    if not isinstance(name, str):
        raise RecipeError(
            f"{here}: {node.plain()!r}",
            expected="a step's name, or one name with its options: `- pack: {seq_len: 512}`",
        )
    try:
        spec = find_step(name, folder=folder)
    except ConfigError as error:
        raise RecipeError(f"{here}: {error.got}", expected=error.expected, fix=error.fix) from None
    if options is not None and options.value is not None and not isinstance(options.value, dict):
        raise RecipeError(f"{_at(where, options.line)}: {name}: {options.plain()!r}", expected="options as a mapping")
    found = dict(options.value or {}) if options is not None else {}
    if folder is not None:
        # A recipe's paths are relative to the recipe, so that it works from any folder.
        found |= {option: _relative(found[option], folder) for option in spec.resources if option in found}
    checked = _options(spec, found, where, node.line)
    return RecipeStep(spec=spec.resolved(checked), options=checked, where=here)


def _relative(node: Node, folder: Path) -> Node:
    """A path, or a list of them, from a recipe in `folder`."""
    if isinstance(node.value, list):
        return Node([_relative(each, folder) for each in node.value], node.line)
    return Node(str(folder / node.value), node.line) if isinstance(node.value, str) and node.value else node


def _section(name: str, kind: type[Any], node: Node | None, where: str) -> Any:
    if node is None or node.value is None:
        return kind()
    if not isinstance(node.value, dict):
        raise RecipeError(f"{_at(where, node.line)}: {name}: {node.plain()!r}", expected="a mapping of options")
    return _options(_spec(name, kind), node.value, where, node.line)


def _spec(name: str, kind: type[Any]) -> StepSpec:
    """A section's settings are checked like a step's options."""
    from datapipe.steps import StepSpec

    def build(_: Any) -> Any:
        raise AssertionError("a section is not a step")

    return StepSpec(name=name, version=1, kind="map", options=kind, build=build, summary=name)


def _options(spec: StepSpec, nodes: Mapping[str, Node], where: str, line: int) -> Any:
    """Options checked together; a fault is looked for option by option, so that the message has its line."""
    from datapipe.steps import options_from

    try:
        return options_from(spec, {name: node.plain() for name, node in nodes.items()})
    except ConfigError as error:
        for name, node in nodes.items():
            try:
                options_from(spec, {name: node.plain()})
            except ConfigError as found:
                raise _located(found, spec.name, _at(where, node.line)) from None
        raise _located(error, spec.name, _at(where, line)) from None


def _located(error: ConfigError, name: str, place: str) -> RecipeError:
    got = error.got.replace(f"step {name!r}", f"section {name!r}") if name in SECTIONS else error.got
    return RecipeError(f"{place}: {got}", expected=error.expected, fix=error.fix)


def _override(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with other values of one step or section, by "step.option"; or with another seed."""
    from datapipe.steps import options_from, plain_options
    from datapipe.steps.options import nearest

    key = next(iter(values))
    if key == "seed":
        _check_seed(values[key])
        return replace(recipe, seed=values[key])
    target, dot, _ = key.rpartition(".")
    names = ["input", "output", *dict.fromkeys(step.name for step in recipe.steps)]
    if not dot:
        raise ConfigError(
            f"override {key!r}", expected="seed, or step.option", fix=nearest(key, [f"{n}.…" for n in names])
        )
    given = {each.rpartition(".")[2]: value for each, value in values.items()}
    if target in ("input", "output"):
        kind: type[Any] = InputSettings if target == "input" else OutputSettings
        changed = {**plain_options(getattr(recipe, target)), **given}
        try:
            settings = options_from(_spec(target, kind), changed)
        except ConfigError as error:
            raise _located(error, target, "override") from None
        return replace(recipe, input=settings) if target == "input" else replace(recipe, output=settings)
    places = recipe.find(target)
    if len(places) != 1:
        count = f"{len(places)} steps are" if places else "no step is"
        raise ConfigError(
            f"override {key!r}: {count} called {target!r} in the recipe",
            expected=f"one of {', '.join(names)}",
            fix=nearest(target, names) if not places else "give the options in a recipe file instead",
        )
    step = recipe.steps[places[0]]
    return recipe.with_step(places[0], options_from(step.spec, {**plain_options(step.options), **given}))
