"""join, over the corpus and files that no worker holds: both sides cut by hashed key on disk, then joined.

Map tasks collect the keys of their rows; each joined file is cut into runs; one task a range finds the record of each
key; one task a split attaches what was found for its rows, which are then marked by the step as in memory. Invariant:
rows stay where they are, each once, and get what the join in memory would give them, whatever the number of ranges.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.preprocess.joining.attach_task import AttachTask
from datapipe.preprocess.joining.key_file import KEYS, KeyCollector
from datapipe.preprocess.joining.match_task import FOUND, MatchTask
from datapipe.preprocess.joining.right_task import RUNS, SCHEMA, RightTask
from datapipe.preprocess.passes.contract import Pass
from datapipe.preprocess.stage import ROWS
from datapipe.preprocess.tasks import task_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.preprocess.layout import Layout
    from datapipe.preprocess.made import Made
    from datapipe.preprocess.recipe import RecipeStep
    from datapipe.preprocess.stage import Stage
    from datapipe.preprocess.tasks import Task

RANGE_BYTES: Final = 16 << 20
"""Stored bytes of the joined files in a range: some five times as much in memory."""
MAX_RANGES: Final = 1024
CUT: Final = "join: cut"
MATCH: Final = "join: match"
ATTACH: Final = "join"


@final
class JoinPass(Pass):
    """See the module."""

    step = "join"
    internal = ("__joined",)
    collectors = MappingProxyType({KEYS: KeyCollector})
    by_rows = False

    def lay_out(self, layout: Layout, step: RecipeStep, before: list[RecipeStep]) -> list[RecipeStep]:
        """See `Pass.lay_out`."""
        before = layout.settled(before)
        # Rows that drop lists name must be gone before the others are told apart by their positions.
        writes = (ROWS,) if layout.rows is None or before or layout.drops else ()
        # Without files the row half lets every row pass: the rows need not be read anew because the files changed.
        bare = replace(step.options, files=())
        asking = replace(step, options=bare, spec=replace(step.spec, signals=(), counters=(), gives=()))
        asked = layout.map("join: keys", [*before, asking], (*writes, KEYS))
        assert layout.rows is not None
        rows = layout.rows
        cut = layout.add(CUT, CUT, len(step.options.files), self.step, asked, "files", steps=(step,), writes=(RUNS,))
        ranges = ranges_for(step.options.bytes, layout.buckets)
        match = layout.add(MATCH, MATCH, ranges, self.step, asked, KEYS, steps=(step,), writes=(FOUND,))
        assert match == cut + 1
        layout.rewrite(ATTACH, ATTACH, self.step, rows, ROWS, steps=(step,))
        return [step]

    def settings(self, step: RecipeStep, stage: Stage, made: Made) -> dict[str, Any]:
        """The key columns, and the number of ranges; of a stage that applies the join, nothing."""
        if KEYS not in stage.writes or step.options.files:
            return {}
        match = next(each for each in made.plan.stages[stage.number :] if each.kind == MATCH)
        return {self.step: {"on": [name for name, _ in step.options.keys], "ranges": match.tasks}}

    def tasks(self, stage: Stage, made: Made) -> Iterator[Task]:
        """See `Pass.tasks`."""
        if stage.kind == CUT:
            return self._cut(stage, made)
        return self._match(stage, made) if stage.kind == MATCH else self._attach(stage, made)

    def _fields(self, stage: Stage, made: Made) -> dict[str, Any]:
        return {"stage": stage.number, "name": stage.name, "output": made.output}

    def _cut(self, stage: Stage, made: Made) -> Iterator[Task]:
        options = stage.steps[0].options
        ranges = made.plan.stages[stage.number + 1].tasks
        for number, path in enumerate(options.files):
            file = made.resources[path]
            yield RightTask(
                **self._fields(stage, made),
                key=task_key(made.plan.definition(stage), [number, file.checksum, ranges]),
                split=number,
                bytes=file.bytes,
                file=file.path,
                shown=PurePath(path).name,
                wanted=options.wanted,
                ranges=ranges,
            )

    def _match(self, stage: Stage, made: Made) -> Iterator[Task]:
        assert stage.source is not None
        cut = sorted(made.records[stage.number - 1].items())
        _check_types(cut, made, stage)
        keys = made.files(stage.source, KEYS)
        asked = [[split, file.checksum] for split, file in keys]
        for number in range(stage.tasks):
            runs = [
                (record.files[RUNS], tuple(record.found[RUNS][str(number)][1:]))
                for _, record in cut
                if str(number) in record.found[RUNS]
            ]
            if not runs:
                continue
            told = [[file.checksum, list(batches)] for file, batches in runs]
            yield MatchTask(
                **self._fields(stage, made),
                key=task_key(made.plan.definition(stage), [number, stage.tasks, told, asked]),
                split=number,
                bytes=sum(file.bytes for file, _ in runs) // stage.tasks,
                runs=tuple((file.path, batches) for file, batches in runs),
                keys=tuple((split, file.path) for split, file in keys),
                duplicates=stage.steps[0].options.duplicates,
            )

    def _attach(self, stage: Stage, made: Made) -> Iterator[Task]:
        assert stage.source is not None
        match = sorted(made.records[stage.number - 1].items())
        schema = next(iter(made.records[stage.number - 2].values())).found[SCHEMA]
        for split, rows in made.files(stage.source, ROWS):
            parts = [
                (record.files[FOUND].path, *record.lists[str(split)])
                for _, record in match
                if str(split) in record.lists
            ]
            yield AttachTask(
                **self._fields(stage, made),
                key=task_key(made.plan.definition(stage), [rows.checksum, schema, [part[3] for part in parts]]),
                split=split,
                bytes=rows.bytes,
                rows=rows.path,
                parts=tuple((path, batch) for path, batch, _, _ in parts),
                schema=schema,
            )


def ranges_for(size: int, least: int = 1) -> int:
    """Into how many ranges joined files of so many bytes are cut: a power of two."""
    ranges = max(1, least)
    while ranges < MAX_RANGES and ranges * RANGE_BYTES < size:
        ranges *= 2
    return ranges


def _check_types(cut: list[tuple[int, Any]], made: Made, stage: Stage) -> None:
    """Files of unlike types would give other types from range to range."""
    from datapipe.dataset.manifest import decode_schema
    from datapipe.steps.join_right import same_types

    del made, stage
    same_types([decode_schema(record.found[SCHEMA]) for _, record in cut])


PASS: Final = JoinPass()
