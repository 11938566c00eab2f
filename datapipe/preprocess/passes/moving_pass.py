"""Steps that move rows between splits: sort and shuffle.

Map tasks draw a sample of the keys; one task finds the bounds of parts of about equal size; each split is cut into
runs, one a part; each part is sorted and is a split from there on. Invariant: the rows that leave are the rows that
came, each once, whatever the number of parts and workers; the row ledger counts, for every split, what moved out of it
and into it.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, Final

from datapipe.preprocess.collectors import Collector
from datapipe.preprocess.moving.merge_task import MergeTask
from datapipe.preprocess.moving.partition_task import RUNS, PartitionTask
from datapipe.preprocess.moving.splitters_task import PER_PART, SPLITTERS, WEIGHT, SplittersTask
from datapipe.preprocess.passes.contract import Pass
from datapipe.preprocess.stage import ROWS
from datapipe.preprocess.tasks import task_key

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Iterator

    import pyarrow as pa

    from datapipe.preprocess.layout import Layout
    from datapipe.preprocess.made import Made
    from datapipe.preprocess.recipe import RecipeStep
    from datapipe.preprocess.stage import Stage
    from datapipe.preprocess.tasks import MapTask, OutputFile, Task
    from datapipe.preprocess.work import WorkFolder

MERGE: Final = "merge"
PARTITION: Final = "partition"


class KeyCollector(Collector):
    """The keys of a sample of the rows: those with the least keyed draws, so many that each part has some hundred."""

    step: str

    def __init__(self, kind: str, task: MapTask, work: WorkFolder, stack: contextlib.ExitStack) -> None:
        from datapipe.steps import find_step, options_from

        super().__init__(kind, task, work, stack)
        plain = dict(task.settings[self.step])
        self._most = plain.pop("sample")
        self._options = options_from(find_step(self.step), plain)
        self._kept: pa.Table | None = None
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        """See `Collector.add`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        from datapipe.preprocess.moving.row_order import joined, keys_of
        from datapipe.steps import Keys
        from datapipe.steps.draws import bits

        self._rows += table.num_rows
        keys = keys_of(table, self.step, self._options, self.task.seed, self.task.split)
        draws = bits(table.column("row_id").to_pylist(), Keys(seed=self.task.seed), f"{self.step}.sample")
        keys = keys.append_column("draw", pa.array(draws, pa.uint64()))
        kept = keys if self._kept is None else joined([self._kept, keys])
        if kept.num_rows > self._most:
            order = [(name, "ascending") for name in ("draw", "position")]
            kept = kept.take(pc.sort_indices(kept, sort_keys=order)[: self._most]).combine_chunks()
        self._kept = kept

    def finish(self) -> OutputFile | None:
        """See `Collector.finish`."""
        import pyarrow as pa

        from datapipe.preprocess.rows_file import RowsWriter

        kept = self._kept
        if kept is None or not kept.num_rows:
            return None
        weight = pa.repeat(pa.scalar(self._rows / kept.num_rows, pa.float64()), kept.num_rows)
        with self.work.scratch_file(self.kind) as path:
            with RowsWriter(path) as writer:
                writer.write(kept.drop_columns(["draw"]).append_column(WEIGHT, weight).combine_chunks())
            return self.work.put_file(self.kind, self.task.key, path)


class MovingPass(Pass):
    """See the module. A subclass names its step and the one kind that its collector writes."""

    @property
    @abc.abstractmethod
    def kind(self) -> str:
        """What the collector writes."""

    def lay_out(self, layout: Layout, step: RecipeStep, before: list[RecipeStep]) -> list[RecipeStep]:
        """See `Pass.lay_out`."""
        before = layout.settled(before)
        # Rows that drop lists name must be gone before the others move.
        writes = (ROWS,) if layout.rows is None or before or layout.drops else ()
        sampled = layout.map("sample", [*before, step], (*writes, self.kind))
        assert layout.rows is not None
        layout.add(SPLITTERS, SPLITTERS, 1, self.step, sampled, self.kind, steps=(step,), writes=(SPLITTERS,))
        runs = layout.add(
            PARTITION, PARTITION, layout.splits, self.step, layout.rows, ROWS, steps=(step,), writes=(RUNS,)
        )  # fmt: skip
        layout.move(self.step, MERGE, step.options.shards or layout.parts, self.step, runs, RUNS, steps=(step,))
        return []

    def settings(self, step: RecipeStep, stage: Stage, made: Made) -> dict[str, Any]:
        """The step's options, and how many keys a split's sample holds."""
        from datapipe.steps import plain_options

        parts = next(each.tasks for each in made.plan.stages if each.owner == self.step and each.kind == MERGE)
        sample = PER_PART * max(1, -(-parts // stage.tasks))
        return {self.step: {**plain_options(step.options), "sample": sample}}

    def tasks(self, stage: Stage, made: Made) -> Iterator[Task]:
        """See `Pass.tasks`."""
        if stage.kind == SPLITTERS:
            return self._splitters(stage, made)
        return self._partition(stage, made) if stage.kind == PARTITION else self._merge(stage, made)

    def _fields(self, stage: Stage, made: Made) -> dict[str, Any]:
        from datapipe.steps import plain_options

        return {
            "stage": stage.number,
            "name": stage.name,
            "output": made.output,
            "step": self.step,
            "options": plain_options(stage.steps[0].options),
        }

    def _splitters(self, stage: Stage, made: Made) -> Iterator[Task]:
        assert stage.source is not None
        parts = made.plan.stages[stage.number + 2].tasks
        samples = [file for _, file in made.files(stage.source, stage.reads)]
        yield SplittersTask(
            **self._fields(stage, made),
            key=task_key(made.plan.definition(stage), [parts, [file.checksum for file in samples]]),
            split=0,
            parts=parts,
            samples=tuple(file.path for file in samples),
            bytes=sum(file.bytes for file in samples),
        )

    def _partition(self, stage: Stage, made: Made) -> Iterator[Task]:
        assert stage.source is not None
        bounds = made.records[stage.number - 1][0].files.get(SPLITTERS)
        for split, rows in made.files(stage.source, ROWS):
            yield PartitionTask(
                **self._fields(stage, made),
                # The split's number ends the order of equal rows.
                key=task_key(made.plan.definition(stage), [split, rows.checksum, bounds and bounds.checksum]),
                split=split,
                seed=made.plan.recipe.seed,
                rows=rows.path,
                bounds=bounds.path if bounds is not None else "",
                bytes=rows.bytes,
            )

    def _merge(self, stage: Stage, made: Made) -> Iterator[Task]:
        assert stage.source is not None
        runs: dict[int, list[tuple[int, str, tuple[int, ...]]]] = {}
        inputs: dict[int, list[Any]] = {}
        sizes: dict[int, int] = {}
        for split, record in sorted(made.records[stage.source].items()):
            for part, (rows, *batches) in record.found[RUNS].items():
                file = record.files[RUNS]
                runs.setdefault(int(part), []).append((split, file.path, tuple(batches)))
                inputs.setdefault(int(part), []).append([split, file.checksum, batches])
                sizes[int(part)] = sizes.get(int(part), 0) + file.bytes * rows // max(1, record.rows_out)
        for part in sorted(runs):
            yield MergeTask(
                **self._fields(stage, made),
                key=task_key(made.plan.definition(stage), [part, inputs[part]]),
                split=made.plan.first_split + part,
                seed=made.plan.recipe.seed,
                runs=tuple(runs[part]),
                bytes=sizes[part],
            )
