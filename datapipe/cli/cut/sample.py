"""A few rows of a corpus, preprocessed up to the first place where a cut can be.

What enters: inputs and a recipe. What leaves: a `Sample`: rows at that place, what they cost a row, and how many the
whole corpus has. Invariant: nothing outside the folder given is written; the steps before the cuts run as `preprocess`
runs them.

A step can move into the loader where it takes row by row and never drops one: a batch that lost a row would leave some
rank a step short. A step of the user's own, which may drop rows or not, can where it dropped none of the sample's; the
loader refuses the batch where it does. `pack` is the loader's own (`datapipe.Pack`) and is left out on both sides.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from datapipe.preprocess import Plan, Recipe
    from datapipe.preprocess.recipe import RecipeStep
    from datapipe.steps import BoundStep

_OWN: Final = ("row_id", "media_type", "bad_bytes")
"""Columns that reading adds."""
_TOLD: Final = ("image_pixels",)
"""Steps that drop nothing after a check has: bytes that cannot be decoded."""
_PIECES: Final = 16
"""Of files of many rows, pieces that the sample is taken from."""


@final
@dataclass(frozen=True, kw_only=True)
class Sample:
    """Rows at the first cut.

    Attributes:
        table: the rows.
        movable: the steps after it, bound.
        fixed: names of the steps before it.
        cost: CPU seconds a row of `table` that these took, reading and writing included.
        rows: of the whole corpus at this place, about.
        packed: whether the recipe ends in `pack`.
    """

    table: pa.Table
    movable: tuple[BoundStep, ...]
    fixed: tuple[str, ...]
    cost: float
    rows: int
    packed: bool


def first_movable(steps: Sequence[RecipeStep]) -> int:
    """The place after the last step that must run ahead: a global one, or one that may drop rows.

    Of a step of the user's own (its name has a colon), and of `_TOLD`, the sample tells.
    """
    must = [
        place
        for place, step in enumerate(steps)
        if step.spec.kind != "map" or (step.spec.reasons and ":" not in step.name and step.name not in _TOLD)
    ]
    return must[-1] + 1 if must else 0


def take_sample(inputs: Sequence[str], recipe: Recipe, folder: Path, *, rows: int) -> Sample:
    """Read about so many rows, and preprocess them.

    Raises:
        ConfigError: the recipe has no step that can move, or is refused.
        CorpusError: there is no input.
    """
    from datapipe.dataset import open_dataset
    from datapipe.preprocess import plan_run
    from datapipe.preprocess.estimate import estimate_size

    packed = bool(recipe.steps) and recipe.steps[-1].name == "pack"
    steps = recipe.steps[:-1] if packed else recipe.steps
    first = first_movable(steps)
    if first == len(steps):
        raise _nothing_moves(recipe, steps)
    plan = plan_run(inputs, folder / "nothing", recipe)
    documents = estimate_size(plan).documents
    written, reading = _read(plan, folder, rows)
    base = replace(recipe, steps=steps[:first])
    costs: list[tuple[int, float]] = []
    found: Any = None
    for part in (max(1, written // 2), written):
        began = time.process_time()
        found = _preprocessed(folder, base, part)
        costs.append((part, time.process_time() - began))
    dataset = open_dataset(str(folder / f"base-{written}"))
    table = dataset.take(range(len(dataset)))
    if not table.num_rows:
        raise ConfigError(
            f"no row of the sample came through {', '.join(step.name for step in base.steps)}",
            expected="rows to measure the further steps on", fix="a larger sample: --sample-rows",
        )  # fmt: skip
    # What a run costs whatever its size is no cost of a row: two sizes tell it apart.
    (few, less), (many, more) = costs[0], costs[-1]
    told = sum(step.cpu_seconds for step in found.steps) / many
    each = max(told, (more - less) / (many - few) if many > few else more / many) + reading
    movable = [bound(step, dataset) for step in steps[first:]]
    moved, table, further = _past_drops(table, movable, recipe.seed)
    if moved == len(movable):
        raise _nothing_moves(recipe, steps)
    return Sample(
        table=table,
        movable=tuple(movable[moved:]),
        fixed=tuple(step.name for step in steps[: first + moved]),
        cost=(each * many + further) / table.num_rows,
        rows=max(table.num_rows, round(documents * table.num_rows / many)),
        packed=packed,
    )


def _nothing_moves(recipe: Recipe, steps: Sequence[RecipeStep]) -> ConfigError:
    return ConfigError(
        f"no step of the recipe {recipe.name!r} can move into the loader",
        expected="steps at its end that take row by row and drop none: pii, augment_text, tokenize, one's own",
        fix=f"{steps[-1].name!r} has to see the corpus, or drops rows" if steps else "give it steps",
    )


def _past_drops(table: pa.Table, steps: Sequence[BoundStep], seed: int) -> tuple[int, pa.Table, float]:
    """How many of the steps end with the last that drops rows of the sample, the rows after it, and its CPU seconds."""
    from datapipe.steps import Keys, run_steps

    found, spent, now = (0, table, 0.0), 0.0, table
    for place, step in enumerate(steps, 1):
        began = time.process_time()
        made = run_steps(now, [step], Keys(seed=seed)).table
        spent += time.process_time() - began
        if made.num_rows < now.num_rows:
            found = (place, made, spent)
        now = made
    return found


def _read(plan: Plan, folder: Path, rows: int) -> tuple[int, float]:
    """Write the first rows of the plan's pieces, by turns, as a Parquet file each of half and all of them.

    Returns:
        How many there are, and CPU seconds that reading one took.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from datapipe.corpus import FORMATS, read_piece

    options = plan.recipe.input.read_options()
    pieces = [piece for split in plan.splits for piece in split.pieces]
    # Of files that are one row each as many as rows are wanted.
    most = min(len(pieces), rows if all(FORMATS[piece.file.format].single for piece in pieces) else _PIECES)
    chosen = [pieces[len(pieces) * i // most] for i in range(most)]
    tables: list[pa.Table] = []
    began, read = time.process_time(), 0
    for piece in chosen:
        taken, wanted = 0, -(-rows // len(chosen))
        for batch in read_piece(piece, options=options, storage_options=None):
            read += batch.table.num_rows
            tables.append(batch.table.slice(0, wanted - taken))
            taken += tables[-1].num_rows
            if taken >= wanted:
                break
    reading = (time.process_time() - began) / max(1, read)
    table = pa.concat_tables(tables, promote_options="default").slice(0, rows)
    if not table.num_rows:
        raise ConfigError("the input has no rows", expected="rows to take a sample of")
    kept = table.select([name for name in table.column_names if name not in _OWN])
    names = {"text": plan.recipe.input.text_column, "raw": plan.recipe.input.text_column}
    kept = kept.rename_columns([names.get(name) or name for name in kept.column_names])
    for part in {max(1, kept.num_rows // 2), kept.num_rows}:
        (folder / f"in-{part}").mkdir()
        pq.write_table(kept.slice(0, part), folder / f"in-{part}" / "sample.parquet", row_group_size=512)
    return kept.num_rows, reading


def _preprocessed(folder: Path, recipe: Recipe, part: int) -> Any:
    from datapipe.preprocess import preprocess

    return preprocess(
        [str(folder / f"in-{part}")], str(folder / f"base-{part}"), recipe=recipe, workers=0, fresh=True
    )  # fmt: skip


def bound(step: RecipeStep, dataset: Any) -> BoundStep:
    """The step as the loader would run it; a tokenizer that the recipe trains is the sample's."""
    from datapipe.steps import BoundStep

    options = step.options
    held = None if dataset.manifest is None else dataset.manifest.vocabulary
    if step.name == "tokenize" and not options.tokenizer and held is not None:
        options = replace(options, tokenizer=str(Path(dataset.url) / held.path))
    # By its spec, not by its name: a step of the user's own is named from the recipe's folder.
    return BoundStep(spec=step.spec.resolved(options), options=options, step=step.spec.build(options))
