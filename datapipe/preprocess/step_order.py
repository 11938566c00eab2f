"""Whether a recipe's steps work in the order they are written: columns that a step needs come from one before it.

What enters: a recipe whose values are right. What leaves: the columns that shards will have, as far as they are known,
or a ConfigError that says which step to move.
Invariant: a recipe that passes finds every column it needs in every row of every format.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from datapipe.errors import ConfigError
from datapipe.preprocess.stage import MOVING

if TYPE_CHECKING:
    from datapipe.preprocess.recipe import Recipe, RecipeStep
    from datapipe.steps import StepSpec

READ: Final = ("row_id", "media_type", "raw")
"""What the readers of every format give; `text` comes from the step decode, also where a reader decoded it already."""
POSITION: Final = "__position"


def internal() -> tuple[str, ...]:
    """Columns that stages hand to each other; no shard holds them."""
    from datapipe.preprocess.passes import internal_columns

    return (POSITION, *internal_columns())


def check_order(recipe: Recipe) -> tuple[str, ...]:
    """Refuse a recipe that could not run.

    Returns:
        The columns of the shards; with "*" among them, and others that are not known before a file is open.

    Raises:
        ConfigError: a step lacks a column or a tokenizer, comes after the rows were reshaped, or comes twice where once
            is all that makes sense; or the output asks for a column that is not there.
    """
    _check_columns(recipe)
    columns = _read(recipe)
    reshaped: RecipeStep | None = None
    moved: RecipeStep | None = None
    for step in recipe.steps:
        place = f"{step.where}: " if step.where else ""
        if reshaped is not None:
            raise ConfigError(
                f"{place}{step.name} after {reshaped.name}",
                expected=f"{reshaped.name} last: it makes new rows of several documents",
                fix=f"move {step.name} before {reshaped.name}",
            )
        _check_needs(recipe, step, place, columns)
        if moved is not None:
            _check_moved(step, place, moved)
        _check_measured(recipe, step, place)
        _check_text(recipe, step, place)
        if step.name in MOVING and step.spec.kind == "global":
            moved = step
        elif step.spec.kind == "reshape":
            reshaped = step
        columns = _columns_after(step, columns)
    return _shard_columns(recipe, columns)


def _read(recipe: Recipe) -> list[str]:
    """The columns that rows are read with; "*" where they are not known before a file is open."""
    if recipe.input.media is not None:
        return ["row_id", recipe.input.media, "path", "label", *recipe.reading().columns]
    if recipe.input.text_column is None:
        return ["row_id", *recipe.reading().columns]
    return [*READ, *recipe.input.columns]


def _columns_after(step: RecipeStep, columns: list[str]) -> list[str]:
    """The columns of rows that a step has worked on."""
    if step.spec.kind == "reshape":
        return list(step.spec.gives)
    if step.name == "schema" and step.options.columns and step.options.extra == "drop":
        columns = [name for name in columns if name in READ]
    removed = {"decode": ("raw",), "tokenize": () if getattr(step.options, "keep_text", True) else ("text",)}
    there = [*columns, *(name for name in step.spec.gives if name not in columns)]
    return [name for name in there if name not in removed.get(step.name, ())]


def _shard_columns(recipe: Recipe, columns: list[str]) -> tuple[str, ...]:
    """Of the columns that rows have at the end, those that the output asks for, which are there."""
    known = tuple(name for name in columns if name not in internal())
    wanted = recipe.output.columns
    unknown = [name for name in wanted or () if not {name, "*"} & {*columns} or name in internal()]
    if unknown or wanted == ():
        raise ConfigError(
            f"output.columns = {list(wanted or ())}",
            expected=f"some of {', '.join(known)}",
            fix=f"remove {unknown[0]}" if unknown else "name a column, or null for all",
        )
    return wanted or known


def _check_columns(recipe: Recipe) -> None:
    names = recipe.input.columns
    taken = [*READ, "text", "bad_bytes", "tokens", "n_tokens", *internal(), "drop_reason", "quarantine_reason"]
    if recipe.input.text_column is None:
        taken = ["row_id", *internal(), "drop_reason", "quarantine_reason", "mark_detail"]
    for name in names:
        if name in taken or names.count(name) > 1:
            raise ConfigError(
                f"input.columns names {name!r}" + (" twice" if names.count(name) > 1 else ""),
                expected=f"further columns, each once, and none of {', '.join(taken)}",
                fix=f"remove {name}, or rename the column in the input",
            )


def _check_needs(recipe: Recipe, step: RecipeStep, place: str, columns: list[str]) -> None:
    if "*" not in columns and (missing := [name for name in step.spec.needs if name not in columns]):
        raise ConfigError(
            f"{place}{step.name} needs the column {missing[0]!r}, and nothing before it gives it",
            expected=f"the columns {', '.join(step.spec.needs)}",
            fix=_remedy(recipe, step, missing[0], columns),
        )


def _check_moved(step: RecipeStep, place: str, moved: RecipeStep) -> None:
    """Of a step after one that moves rows."""
    # What tokenize counts is summed for the report, and of no row is it asked.
    measures = step.spec.signals and step.name != "tokenize"
    marks = step.spec.reasons and step.spec.sieve is None  # which runs before rows are moved
    if step.spec.kind == "global" or marks or measures:
        raise ConfigError(
            f"{place}{step.name} after {moved.name}",
            expected=f"{moved.name} after all steps that drop, measure or compare rows: it moves them, and what "
            "becomes of a row is told by the place where it was read",
            fix=f"move {step.name} before {moved.name}",
        )


def _check_text(recipe: Recipe, step: RecipeStep, place: str) -> None:
    """There is a text to decode; and a dataset has one vocabulary, as two would be taken for each other."""
    if step.name == "decode" and recipe.input.text_column is None:
        raise ConfigError(
            f"{place}decode, and input.text_column is null",
            expected="a text to decode",
            fix="remove the step, or name the column of the text",
        )
    if step.name in ("vocabulary", "tokenize") and sum(other.name == step.name for other in recipe.steps) > 1:
        raise ConfigError(f"{place}{step.name} comes twice", expected="once", fix="remove one of them")
    if step.name == "tokenize":
        before = recipe.steps[: recipe.steps.index(step)]
        _check_tokenizer(step, place, trained=any(other.name == "vocabulary" for other in before))


def _check_measured(recipe: Recipe, step: RecipeStep, place: str) -> None:
    """A value that no row will have, where a step split says which there are; of other columns the pass finds out."""
    from datapipe.steps.options import nearest
    from datapipe.steps.table_statistics import MEASURED

    if step.name not in MEASURED or step.options.statistics:
        return
    measure = step.options.measure
    for other in recipe.steps[: recipe.steps.index(step)]:
        if other.name != "split" or not other.options.parts or other.options.column not in measure:
            continue
        parts, value = tuple(other.options.keep or other.options.parts), measure[other.options.column]
        if value not in parts:
            raise ConfigError(
                f"{place}{step.name}.measure: {other.options.column} = {value!r}, which split makes of no row",
                expected=f"one of {', '.join(parts)}",
                fix=nearest(value, parts),
            )


def _check_tokenizer(step: RecipeStep, place: str, *, trained: bool) -> None:
    given = step.options.tokenizer
    if trained and given:
        raise ConfigError(
            f"{place}tokenize.tokenizer = {PurePath(given).name!r}, and a step vocabulary before it",
            expected="one of the two",
            fix="remove the step vocabulary, or the option",
        )
    if not trained and not given:
        raise ConfigError(
            f"{place}tokenize has no tokenizer",
            expected="the path of a tokenizer.json, or a step vocabulary before it",
            fix="add `- vocabulary` before `- tokenize`, or --set tokenize.tokenizer=PATH",
        )


def _remedy(recipe: Recipe, step: RecipeStep, column: str, columns: list[str]) -> str:
    """What to do about a column that is not there when `step` needs it."""
    from datapipe.steps import REGISTRY
    from datapipe.steps.options import nearest

    def gives(spec: StepSpec) -> bool:
        return column in spec.gives and column not in spec.needs

    place = recipe.steps.index(step)
    if any(gives(other.spec) for other in recipe.steps[:place]):
        return f"move {step.name} before tokenize, or --set tokenize.keep_text=true"  # the one step that removes text
    later = [other.name for other in recipe.steps[place:] if gives(other.spec)]
    if later:
        return f"put {later[0]} before {step.name}"
    givers = [name for name, spec in REGISTRY.items() if gives(spec)]
    if givers:
        return f"add the step {givers[0]}"
    schema = next((other for other in recipe.steps[:place] if other.name == "schema"), None)
    if schema is None:
        return f"read it: --set 'input.columns=[{column}]'"
    close = nearest(column, [name for name in columns if name not in READ])
    return f"name it in schema.columns: those left are {', '.join(schema.options.columns)}" + (
        f"; {close}" if close else ""
    )
