"""vocabulary, over the corpus: a seeded sample of the texts → a tokenizer, which the step tokenize is given.

Invariant: the sample is a function of the row ids, the seed and the bytes of text there are.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.preprocess.collectors import TableCollector
from datapipe.preprocess.passes.contract import Pass
from datapipe.preprocess.tasks import task_key
from datapipe.preprocess.vocabulary_task import VocabularyTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from datapipe.preprocess.layout import Layout
    from datapipe.preprocess.made import Made
    from datapipe.preprocess.recipe import RecipeStep
    from datapipe.preprocess.stage import Stage
    from datapipe.preprocess.tasks import OutputFile, Task

SAMPLE: Final = "sample"
_RATE: Final = "sample_rate"


@final
class SampleCollector(TableCollector):
    """The texts of the rows in the sample."""

    def chosen(self, table: pa.Table) -> pa.Table:
        """See `TableCollector.chosen`."""
        import pyarrow as pa

        from datapipe.steps.vocabulary import sampled

        inside = sampled(table.column("sample_key").to_numpy(), self.task.settings[_RATE])
        return table.select(["text"]).filter(pa.array(inside))


@final
class VocabularyPass(Pass):
    """See the module."""

    step = "vocabulary"
    internal = ("sample_key",)
    collectors = MappingProxyType({SAMPLE: SampleCollector})
    feeds = (("tokenize", "tokenizer"),)

    def lay_out(self, layout: Layout, step: RecipeStep, before: list[RecipeStep]) -> list[RecipeStep]:
        """See `Pass.lay_out`."""
        if self.step in layout.given:
            return before
        before = layout.settled(before)
        sampled = layout.map("sample", [*before, step], (*layout.changed(before), SAMPLE))
        layout.add("vocabulary", "vocabulary", 1, self.step, sampled, SAMPLE, steps=(step,), writes=("tokenizer",))
        return []

    def settings(self, step: RecipeStep, stage: Stage, made: Made) -> dict[str, Any]:
        """The rate, from the bytes of text that the stage before wrote, known when it ended."""
        from datapipe.steps.vocabulary import sample_rate

        if stage.source is None:
            # The text is not known yet; stored bytes are what there is to go by.
            return {_RATE: sample_rate(made.plan.bytes, step.options)}
        written = sum(record.text_bytes for record in made.records[stage.source].values())
        return {_RATE: sample_rate(written, step.options)}

    def tasks(self, stage: Stage, made: Made) -> Iterator[Task]:
        """See `Pass.tasks`."""
        from datapipe.steps import plain_options

        assert stage.source is not None
        samples = [file for _, file in made.files(stage.source, SAMPLE)]
        yield VocabularyTask(
            key=task_key(made.plan.definition(stage), [file.checksum for file in samples]),
            stage=stage.number,
            name=stage.name,
            split=0,
            output=made.output,
            options=plain_options(stage.steps[0].options),
            samples=tuple(file.path for file in samples),
            bytes=sum(file.bytes for file in samples),
        )

    def product(self, stage: Stage, made: Made) -> OutputFile | None:
        """See `Pass.product`."""
        return made.records[stage.number][0].files.get("vocabulary")


PASS: Final = VocabularyPass()
