"""Before anything is written: find the input, lay out the plan.

What enters: what the user typed. What leaves: a plan, and the files that were passed over. Invariant: nothing is
written, and the same input and recipe give the same plan wherever they lie.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datapipe.errors import ConfigError, CorpusError
from datapipe.preprocess.delivery import before_of, new_files, no_longer
from datapipe.preprocess.input_columns import check_input_columns, check_named_fields
from datapipe.preprocess.output_folder import check_ours, refuse_overlap
from datapipe.preprocess.plan import Plan, build_plan, split_size
from datapipe.preprocess.prior_index import check_index, read_whole
from datapipe.preprocess.recipe_file import load_recipe
from datapipe.preprocess.run_files import tells_of
from datapipe.preprocess.telling import TELLING

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from datapipe.corpus import SourceFile
    from datapipe.preprocess.delivery import Before
    from datapipe.preprocess.recipe import Recipe
    from datapipe.storage import Store


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What discovery found.

    Attributes:
        plan: of the run. skipped: how many files were passed over, by reason.
        before: what the run appends to; None: it makes a dataset of its own.
        known: files that were delivered before.
        redone: whether this is the run that published the newest snapshot, done again: killed before it told of it.
        replaced: what the dataset that is there holds and this run's will not, in words; None: nothing.
        unlabelled: of pictures and sounds and their files of labels, what does not go together, in words.
    """

    plan: Plan
    skipped: dict[str, int]
    before: Before | None = None
    known: int = 0
    replaced: str | None = None
    redone: bool = False
    unlabelled: tuple[str, ...] = ()


def plan_run(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    recipe: Any = "text",
    *,
    overrides: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    append: bool = False,
) -> Plan:
    """What `preprocess` would do with the same arguments; nothing is written.

    Raises:
        ConfigError, CorpusError, OutputError: as `preprocess`.
    """
    return survey_run(inputs, output, recipe, overrides, storage_options, append=append).plan


def survey_run(
    inputs: Any,
    output: Any,
    recipe: Any = "text",
    overrides: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    *,
    append: bool = False,
) -> Inputs:
    """The plan, and what else is known before the work; as `plan_run`."""
    from datapipe.storage import open_store

    store = open_store(str(output), storage_options=storage_options)
    check_ours(store)
    return survey(inputs, store, load_recipe(recipe, overrides), storage_options, append=append)


def survey(
    inputs: Any,
    store: Store,
    recipe: Recipe,
    storage_options: Mapping[str, Any] | None,
    *,
    append: bool = False,
    known: Inputs | None = None,
) -> Inputs:
    """Find the input and plan the run; a plan without splits where an append finds nothing new.

    Args:
        known: what this has found a moment ago: what an append is added to, and has been looked through, is not read
            again where nothing was published since.
    """
    from datapipe.corpus import discover, plan_splits, uncovered_labels

    names = [str(each) for each in ([inputs] if isinstance(inputs, (str, Path)) else inputs)]
    refuse_overlap(names, store)
    discovery = discover(names, storage_options=storage_options, format=recipe.input.format, media=recipe.input.media)
    files = list(discovery.files)
    if not files:
        raise CorpusError(
            f"{', '.join(names)}: no file that can be read",
            expected="jsonl, json, csv, Parquet, Arrow, text or HTML files",
            fix="check the path",
        )
    refuse_overlap((), store, files)
    looked = known.before if known is not None and known.plan.splits else None
    before = before_of(store, recipe, known=looked) if append else None
    redone = False
    check_named_fields(files, recipe, storage_options)
    check_input_columns(files, recipe, storage_options)
    found = files if before is None else new_files(files, before, storage_options)
    if before is not None and not found and not tells_of(store, before.manifest):
        newest = before
        before, found = _untold(store, recipe, files, before, storage_options)
        redone = before is not newest
    if before is not None and found and before is not looked:
        check_index(store, read_whole(before.index))
    size = recipe.output.split_bytes or split_size(sum(file.size for file in found))
    resources = _resources(recipe)
    _check_joined(recipe)
    splits = plan_splits(found, target_bytes=size, storage_options=storage_options)
    if before is not None:
        splits = [replace(split, index=before.splits + split.index) for split in splits]
    plan = build_plan(
        recipe,
        splits,
        resources=resources,
        given=before.given if before is not None else (),
        bytes_before=before.bytes if before is not None else 0,
    )
    examples = discovery.skipped_examples
    # A count alone does not say what to look at.
    skipped = {f"{reason} (such as {examples[reason]})": n for reason, n in discovery.skipped_counts.items()}
    return Inputs(
        plan=plan,
        skipped=skipped,
        before=before,
        known=len(files) - len(found),
        redone=redone,
        unlabelled=uncovered_labels(files, recipe.input.read_options(), storage_options),
        replaced=None if append else no_longer(store, (file.name for file in files)),
    )


def _untold(
    store: Store,
    recipe: Recipe,
    files: list[SourceFile],
    newest: Before,
    storage_options: Mapping[str, Any] | None,
) -> tuple[Before | None, list[SourceFile]]:
    """What the newest snapshot was added to, and the files that it added.

    For a run that was killed after it had published, and before it told of it: run again, it finds its tasks done,
    publishes the same bytes and ends. Nothing is found where the input is no longer that of the delivery.
    """
    if not store.exists(TELLING) and newest.manifest.snapshot:
        return newest, []  # it was told of, or is no delivery: shards merged, or an earlier content once more
    number = newest.manifest.snapshot
    before = before_of(store, recipe, number - 1) if number else None
    found = files if before is None else new_files(files, before, storage_options)
    earlier = before.sources.keys() if before is not None else ()
    if {file.name for file in found} != newest.sources.keys() - earlier:
        return newest, []
    return before, found


def _check_joined(recipe: Recipe) -> None:
    """Look into the files of a join, whose copies tell a worker nothing of their names: a batch of each is read.

    Raises:
        ConfigError: one cannot be read, or lacks a column.
    """
    from datapipe.steps.join_right import right_batches

    for step in recipe.steps:
        if step.name == "join":
            for path in step.options.files:
                next(right_batches(path, step.options.wanted, path))


def _resources(recipe: Recipe) -> dict[str, str]:
    """Checksum by path of the local files that options name.

    Raises:
        ConfigError: one is not there.
    """
    from datapipe.storage import checksum_file

    found = {}
    for step in recipe.steps:
        for option in step.spec.resources:
            value = getattr(step.options, option)
            for path in [value] if isinstance(value, str) else value:
                if path and not Path(path).is_file():
                    raise ConfigError(
                        f"{step.name}.{option}: there is no file {path}",
                        expected="the path of a file on this machine",
                        fix="check the path; a recipe's relative paths are relative to the recipe",
                    )
                if path:
                    found[path] = checksum_file(path)
    return found
