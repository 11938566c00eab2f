"""Repeated lines or paragraphs over the corpus: hashes of all pieces → those that occur more than once.

Map tasks collect the hash of each piece; one task per range of hashes finds the repeated ones; one joins what they
found into a list; the step then runs again in the next stage over the rows, with the list. Invariant: the list is in
the order of hashes whatever the ranges, and names the first occurrence by (split, position, number); pieces of earlier
deliveries come first, and rows of them are never changed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

from datapipe.errors import ConfigError
from datapipe.preprocess.collectors import Collector
from datapipe.preprocess.near.near_tasks import ranges_of
from datapipe.preprocess.near.record_file import RecordWriter
from datapipe.preprocess.near.repeated_pieces import RepeatedTask, SeenTask, piece_type
from datapipe.preprocess.passes.contract import Pass
from datapipe.preprocess.prior_runs import of_classes
from datapipe.preprocess.stage import RUNS
from datapipe.preprocess.step_order import POSITION
from datapipe.preprocess.tasks import task_key
from datapipe.steps.repeated_text import columns_of, halves, row_hashes

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

REPEATED: Final = "repeated"
SEEN: Final = "seen"
TASKS_A_BUCKET: Final = 8


class PieceCollector(Collector):
    """Hashes, rows and numbers of pieces, sorted: `record_file.SPILL` bytes are held."""

    kept = True
    step: ClassVar[str]

    def __init__(self, kind: str, task: MapTask, work: WorkFolder, stack: contextlib.ExitStack) -> None:
        super().__init__(kind, task, work, stack)
        self._writer = RecordWriter(kind, work, stack)

    def add(self, table: pa.Table) -> None:
        """See `Collector.add`."""
        import numpy as np

        hashes, numbers = (table.column(name).combine_chunks() for name in columns_of(self.step))
        counts = np.diff(hashes.offsets.to_numpy())
        records = np.zeros(int(counts.sum()), piece_type())
        records["high"], records["low"] = halves(hashes.flatten())
        records["number"] = numbers.flatten().to_numpy()
        records["position"] = np.repeat(table.column(POSITION).to_numpy(), counts)
        records["row"] = np.repeat(row_hashes(table.column("row_id").to_pylist()), counts)
        self._writer.add(records)

    def finish(self) -> OutputFile | None:
        """See `Collector.finish`."""
        made = self._writer.finish()
        return self.work.keep_file(self.kind, made[0]) if made is not None else None


class RepeatedTextPass(Pass):
    """What both passes do; `kind` is that of the files they collect."""

    kind: ClassVar[str]

    def lay_out(self, layout: Layout, step: RecipeStep, before: list[RecipeStep]) -> list[RecipeStep]:
        """See `Pass.lay_out`."""
        if any(stage.owner == self.step for stage in layout.stages):
            raise ConfigError(f"{self.step} comes twice", expected="once", fix="remove one of them")
        before = layout.settled(before)
        rows = layout.changed(before)
        hashed = layout.map("clean" if rows else "hash", [*before, step], (*rows, self.kind))
        own: dict[str, Any] = {"steps": (step,)}
        tasks = min(256, layout.buckets * TASKS_A_BUCKET)
        found = layout.add(
            f"repeated {self.kind}", REPEATED, tasks, self.step, hashed, self.kind,
            writes=(REPEATED, f"{self.kind}{RUNS}"), **own
        )  # fmt: skip
        layout.add(f"list of {self.kind}", SEEN, 1, self.step, found, REPEATED, writes=(SEEN,), **own)
        # The same step, now with the list: another object, so that it is not taken for the half that collects.
        return [replace(step)]

    def tasks(self, stage: Stage, made: Made) -> Iterator[Task]:
        """See `Pass.tasks`."""
        assert stage.source is not None
        files = made.files(stage.source, stage.reads)
        definition = made.plan.definition(stage)
        common: dict[str, Any] = {"stage": stage.number, "name": stage.name, "output": made.output}
        if stage.kind == SEEN:
            yield SeenTask(
                key=task_key(definition, [file.checksum for _, file in files]),
                split=0,
                bytes=sum(file.bytes for _, file in files),
                repeated=tuple(file.path for _, file in files),
                **common,
            )
            return
        before, runs = made.prior_runs(stage.source, stage.reads)
        files = [*before, *files]
        inputs = [[split, file.checksum] for split, file in files], [run.checksum for run in runs]
        first = made.plan.first_split
        for number, (low, high) in enumerate(ranges_of(stage.tasks)):
            yield RepeatedTask(
                key=task_key(definition, [first, low, high, inputs]),
                split=number,
                bytes=sum(file.bytes for _, file in files) // stage.tasks,
                low=low,
                high=high,
                pieces=tuple((split, file.path) for split, file in files),
                first=first,
                runs=of_classes(runs, low, high),
                keeps=stage.writes[1],
                **common,
            )

    def product(self, stage: Stage, made: Made) -> OutputFile | None:
        """See `Pass.product`."""
        return made.records[stage.number][0].files.get(SEEN) if stage.kind == SEEN else None
