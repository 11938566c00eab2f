"""mix, over the corpus: labels and draws of all rows → a drop list of those outside the mixture.

Invariant: the rows that stay are a function of row ids, labels, seed and options, not of how the input is cut.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.preprocess.collectors import ArrayCollector
from datapipe.preprocess.mix_task import RECORD, MixTask
from datapipe.preprocess.passes.contract import Pass
from datapipe.preprocess.stage import Removal
from datapipe.preprocess.step_order import POSITION
from datapipe.preprocess.tasks import task_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from datapipe.preprocess.layout import Layout
    from datapipe.preprocess.made import Made
    from datapipe.preprocess.recipe import RecipeStep
    from datapipe.preprocess.stage import Stage
    from datapipe.preprocess.tasks import Task

LABELS: Final = "mix_labels"
_REMOVAL: Final = Removal(kind="drop", reason="mixed_out", step="mix")


@final
class LabelDrawCollector(ArrayCollector):
    """Label, position and draw of each row: 16 bytes."""

    def arrays(self, table: pa.Table) -> tuple[Any, ...]:
        """See `ArrayCollector.arrays`."""
        from datapipe.steps import find_step, options_from
        from datapipe.steps.mix import label_numbers, mix_draws

        options = options_from(find_step("mix"), self.task.settings["mix"])
        draws = mix_draws(table.column("row_id").to_pylist(), self.task.seed)
        return label_numbers(table, options), table.column(POSITION).to_numpy(), draws

    def encoded(self, *arrays: Any) -> bytes:
        """See `ArrayCollector.encoded`."""
        import numpy as np

        records = np.zeros(len(arrays[0]), np.dtype(RECORD))
        for name, values in zip(("label", "position", "draw"), arrays, strict=True):
            records[name] = values
        return records.tobytes()


@final
class MixPass(Pass):
    """See the module."""

    step = "mix"
    collectors = MappingProxyType({LABELS: LabelDrawCollector})

    def lay_out(self, layout: Layout, step: RecipeStep, before: list[RecipeStep]) -> list[RecipeStep]:
        """See `Pass.lay_out`."""
        before = layout.settled(before)
        rows = layout.changed(before)
        counted = layout.map("clean" if rows else "count", [*before, step], (*rows, LABELS))
        layout.drop_list(layout.add("mix", "mix", 1, self.step, counted, LABELS, _REMOVAL, steps=(step,)))
        return []

    def settings(self, step: RecipeStep, stage: Stage, made: Made) -> dict[str, Any]:
        """The step's options, for the collector."""
        from datapipe.steps import plain_options

        del stage, made
        return {self.step: plain_options(step.options)}

    def tasks(self, stage: Stage, made: Made) -> Iterator[Task]:
        """See `Pass.tasks`."""
        from datapipe.steps import plain_options

        assert stage.source is not None
        labels = made.files(stage.source, stage.reads)
        yield MixTask(
            key=task_key(made.plan.definition(stage), [[split, file.checksum] for split, file in labels]),
            stage=stage.number,
            name=stage.name,
            split=0,
            output=made.output,
            options=plain_options(stage.steps[0].options),
            labels=tuple((split, file.path) for split, file in labels),
            bytes=sum(file.bytes for _, file in labels),
        )


PASS: Final = MixPass()
