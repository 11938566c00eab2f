"""The tasks of a stage, made from the plan and from what the stages before it have done.

What enters: a stage, the records of earlier ones. What leaves: its tasks, in split order. Invariant: a task's key is a
function of the stage's definition and of digests of exactly what the task reads: a split whose rows, drop lists and
resources are as they were has the key it had, whatever happened to other splits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datapipe.preprocess.passes import pass_of
from datapipe.preprocess.stage import MAP, SHARD
from datapipe.preprocess.tasks import DropList, MapTask, OutputFile, task_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from datapipe.corpus import Split
    from datapipe.preprocess.made import Made
    from datapipe.preprocess.stage import Stage
    from datapipe.preprocess.tasks import Task


def tasks_of(stage: Stage, made: Made, input_options: Mapping[str, Any] | None = None) -> Iterator[Task]:
    """The stage's tasks; a split that has no rows left has none."""
    if stage.kind == MAP:
        return _map_tasks(stage, made, input_options)
    return pass_of(stage.owner).tasks(stage, made)


def _map_tasks(stage: Stage, made: Made, input_options: Mapping[str, Any] | None) -> Iterator[Task]:
    from datapipe.steps import plain_options

    plan = made.plan
    definition = plan.definition(stage)
    files = {place: made.files_of(step) for place, step in enumerate(stage.steps)}
    named = [[place, option, [f.checksum for f in each]] for place, by in files.items() for option, each in by.items()]
    settings: dict[str, Any] = {}
    for step in stage.steps:
        if step.spec.kind == "global":
            settings |= pass_of(step.name).settings(step, stage, made)
    erased = [made.erased] if made.erased and stage.source is None else []
    for index, split, rows in _sources(stage, made):
        drops: tuple[DropList, ...] = ()
        digests: list[list[Any]] = []
        if rows is not None:
            drops, digests = made.drops(stage, index)
        stem = f"data/part-{index:05d}" if SHARD in stage.writes else ""
        read = _identity(split) if split is not None else rows.checksum if rows is not None else None
        yield MapTask(
            key=task_key(definition, [read, digests, named, settings, stem, *erased]),
            stage=stage.number,
            name=stage.name,
            split=index,
            bytes=split.bytes if split is not None else rows.bytes if rows is not None else 0,
            output=made.output,
            seed=plan.recipe.seed,
            steps=tuple((step.name, plain_options(step.options)) for step in stage.steps),
            files=tuple(
                (place, option, tuple(f.path for f in each))
                for place, by in files.items()
                for option, each in by.items()
            ),
            settings=settings,
            signals=plan.recipe.output.signals,
            writes=stage.writes,
            pieces=split,
            input=plan.recipe.reading(),
            input_options=input_options,
            rows=rows.path if rows is not None else None,
            drops=drops,
            shard=plan.recipe.output if SHARD in stage.writes else None,
            stem=stem,
            erased=bool(erased),
            moved=any(each.moves for each in plan.stages[: stage.number]),
        )


def _sources(stage: Stage, made: Made) -> Iterator[tuple[int, Split | None, OutputFile | None]]:
    """What each task reads: a split of the corpus, or a file of rows."""
    if stage.source is None:
        for split in made.plan.splits:
            yield split.index, split, None
    else:
        for index, rows in made.files(stage.source, "rows"):
            yield index, None, rows


def _identity(split: Split) -> list[Any]:
    """What a split reads, without where it lies: names, etags, ranges."""
    found: list[Any] = []
    for piece in split.pieces:
        file = piece.file
        about = [] if file.labels is None else [file.labels.path, file.labels.etag]
        found.append([file.name, file.format, file.size, file.etag, piece.start, piece.end, *about])
    return found
