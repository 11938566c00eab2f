"""Steps that are applied by statistics of all rows: measured in one reading, merged, applied by the next map stage.

Map tasks sketch the columns; one task merges the sketches in the order of the splits; the step itself, with the file
that results, is then a step like any other. Invariant: what is measured are the rows that stay, as they are when the
step comes to them; of two such steps side by side on other columns, the second measures the rows that the first did,
before it is applied, so that no rows are written in between.
"""

from __future__ import annotations

import abc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from datapipe.errors import ConfigError
from datapipe.preprocess.collectors import Collector
from datapipe.preprocess.passes.contract import Pass
from datapipe.preprocess.recipe import canonical
from datapipe.preprocess.statistics_task import MOST_LETTERS, MOST_TOLD, STATISTICS, StatisticsTask
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


class SketchCollector(Collector):
    """Sketches of a step's columns, a few kilobytes each (of labels, a line each): canonical JSON."""

    step: str

    def __init__(self, kind: str, task: MapTask, work: WorkFolder, stack: contextlib.ExitStack) -> None:
        from datapipe.steps import find_step, options_from

        super().__init__(kind, task, work, stack)
        self.rows = 0
        self._told = task.output.sealing is None
        self._there: dict[str, set[str]] = {}
        options = options_from(find_step(self.step), task.settings[self.step])
        self._only = options.measure
        self.begin(options)

    @abc.abstractmethod
    def begin(self, options: Any) -> None:
        """Make empty sketches."""

    @abc.abstractmethod
    def measure(self, table: pa.Table) -> None:
        """Take in a batch."""

    @abc.abstractmethod
    def columns(self) -> dict[str, Any]:
        """The sketches as plain values."""

    def add(self, table: pa.Table) -> None:
        """See `Collector.add`."""
        from datapipe.steps.row_choice import rows_with

        chosen = rows_with(table, self._only, self.step)
        if table.num_rows and not self.rows and not chosen.num_rows:
            self._look(table)
        self.rows += chosen.num_rows
        self.measure(chosen)

    def _look(self, table: pa.Table) -> None:
        """What rows have that are not measured, a few values of each column: to be told where none is."""
        import pyarrow as pa

        for name in self._only:
            there = self._there.setdefault(name, set())
            if self._told and len(there) < MOST_TOLD:
                found = table.column(name).unique()
                found = found.dictionary_decode() if pa.types.is_dictionary(found.type) else found
                texts = found.drop_null()[:MOST_TOLD].cast(pa.large_string()).to_pylist()
                there.update(text[:MOST_LETTERS] for text in texts)

    def finish(self) -> OutputFile | None:
        """See `Collector.finish`."""
        if not self.rows:
            if not self._there:
                return None
            there = {name: sorted(values)[:MOST_TOLD] for name, values in self._there.items()}
            return self.work.put_bytes(self.kind, self.task.key, canonical({"rows": 0, "there": there}))
        return self.work.put_bytes(
            self.kind, self.task.key, canonical({"rows": self.rows, "columns": self.columns()})
        )  # fmt: skip


class StatisticsPass(Pass):
    """See the module. A subclass names its step and the one kind that its collector writes."""

    def lay_out(self, layout: Layout, step: RecipeStep, before: list[RecipeStep]) -> list[RecipeStep]:
        """See `Pass.lay_out`.

        Raises:
            ConfigError: the step comes twice in the recipe.
        """
        if self.step in layout.given:
            return [*before, step]
        if any(stage.owner == self.step for stage in layout.stages):
            place = f"{step.where}: " if step.where else ""
            raise ConfigError(
                f"{place}{self.step} comes twice", expected="once, with all its columns", fix="join the two steps"
            )
        (kind,) = self.collectors
        # Another object than the recipe's step: what is told of a row by step is told where the step is applied.
        measuring = replace(step)
        if before and layout.rows is not None and all(self._apart(other, step) for other in before):
            measured = layout.map("measure", [measuring], (kind,))
        else:
            before = layout.settled(before)
            measured = layout.map("measure", [*before, measuring], (*layout.changed(before), kind))
            before = []
        layout.add("statistics", STATISTICS, 1, self.step, measured, kind, steps=(step,), writes=(STATISTICS,))
        return [*before, step]

    def _apart(self, other: RecipeStep, step: RecipeStep) -> bool:
        """Whether `other` is a step of this kind, and changes no column that `step` measures."""
        return other.spec.kind == "global" and not set(other.spec.gives) & set(step.spec.needs)

    def settings(self, step: RecipeStep, stage: Stage, made: Made) -> dict[str, Any]:
        """The step's options, for the collector."""
        from datapipe.steps import plain_options

        del stage, made
        return {self.step: plain_options(step.options)}

    def tasks(self, stage: Stage, made: Made) -> Iterator[Task]:
        """See `Pass.tasks`."""
        from datapipe.steps import plain_options

        assert stage.source is not None
        sketches = [file for _, file in made.files(stage.source, stage.reads)]
        yield StatisticsTask(
            key=task_key(made.plan.definition(stage), [file.checksum for file in sketches]),
            stage=stage.number,
            name=stage.name,
            split=0,
            output=made.output,
            step=self.step,
            options=plain_options(stage.steps[0].options),
            sketches=tuple(file.path for file in sketches),
            bytes=sum(file.bytes for file in sketches),
        )

    def product(self, stage: Stage, made: Made) -> OutputFile | None:
        """See `Pass.product`."""
        return made.records[stage.number][0].files.get(STATISTICS)
