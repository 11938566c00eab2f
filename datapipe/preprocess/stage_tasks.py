"""The tasks of a stage, made from the plan and from what the stages before it have done.

What enters: a stage, the records of earlier ones. What leaves: its tasks, in split order. Invariant: a task's key is a
function of the stage's definition and of digests of exactly what the task reads: a split whose rows, drop lists and
tokenizer are as they were has the key it had, whatever happened to other splits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from datapipe.preprocess.plan import VOCABULARY
from datapipe.preprocess.tasks import DropList, DuplicatesTask, MapTask, OutputFile, Place, VocabularyTask, task_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from datapipe.corpus import Split
    from datapipe.preprocess.plan import Plan, Stage
    from datapipe.preprocess.tasks import Task, TaskRecord


@final
class TaskMaker:
    """Makes tasks; `results` holds the records of each finished stage, by split or bucket."""

    def __init__(
        self, plan: Plan, output: Place, input_options: Mapping[str, Any] | None, given: OutputFile | None
    ) -> None:
        self._plan = plan
        self._output = output
        self._input_options = input_options
        self._given = given
        self.results: dict[int, dict[int, TaskRecord]] = {}

    @property
    def tokenizer(self) -> OutputFile | None:
        """The trained vocabulary, or the file that the recipe names; None where there is neither (yet)."""
        for stage in self._plan.stages:
            if stage.kind == "vocabulary" and stage.number in self.results:
                return self.results[stage.number][0].files["vocabulary"]
        return self._given

    def tasks(self, stage: Stage) -> Iterator[Task]:
        """The stage's tasks; a split that has no rows left has none."""
        if stage.kind == "map":
            return self._map(stage)
        return self._duplicates(stage) if stage.kind == "duplicates" else self._vocabulary(stage)

    def _map(self, stage: Stage) -> Iterator[Task]:
        plan = self._plan
        definition = plan.definition(stage)
        rate = self._sample_rate(stage)
        tokenizer = self.tokenizer if any(step.name == "tokenize" for step in stage.steps) else None
        writes_shard = "shard" in stage.writes
        for split in plan.splits:
            rows: OutputFile | None = None
            drops: tuple[DropList, ...] = ()
            digests: list[list[Any]] = []
            if stage.source is None:
                read: Any = _identity(split)
            else:
                source = self.results[stage.source].get(split.index)
                rows = None if source is None else source.files.get("rows")
                if rows is None:
                    continue
                read = rows.checksum
                drops, digests = self._drops(stage, split.index)
            stem = f"data/part-{split.index:05d}" if writes_shard else ""
            inputs = [read, digests, tokenizer.checksum if tokenizer else None, rate, stem]
            yield MapTask(
                key=task_key(definition, inputs),
                stage=stage.number,
                name=stage.name,
                split=split.index,
                bytes=split.bytes,
                output=self._output,
                seed=plan.recipe.seed,
                steps=tuple((step.name, _plain(step)) for step in stage.steps),
                writes=stage.writes,
                pieces=split if stage.source is None else None,
                input=plan.recipe.input,
                input_options=self._input_options,
                rows=rows.path if rows is not None else None,
                drops=drops,
                tokenizer=tokenizer.path if tokenizer else None,
                rate=rate,
                shard=plan.recipe.output if writes_shard else None,
                stem=stem,
            )

    def _sample_rate(self, stage: Stage) -> float:
        """From the bytes of text that the stage before wrote, known when it ended."""
        from datapipe.steps.vocabulary import sample_rate

        step = next((step for step in stage.steps if step.name == VOCABULARY), None)
        if step is None:
            return 1.0
        if stage.source is None:
            # The text is not known yet; stored bytes are what there is to go by.
            return sample_rate(self._plan.bytes, step.options)
        return sample_rate(sum(record.text_bytes for record in self.results[stage.source].values()), step.options)

    def _drops(self, stage: Stage, split: int) -> tuple[tuple[DropList, ...], list[list[Any]]]:
        """The parts of the stage's drop lists that are this split's, and their digests."""
        found: list[DropList] = []
        digests: list[list[Any]] = []
        for number in stage.drops:
            ids = "ids" in self._plan.stages[number].writes
            for _, record in sorted(self.results[number].items()):
                if (part := record.lists.get(str(split))) is not None:
                    batch, _, digest = part
                    found.append(DropList(path=record.files["drops"].path, batch=batch, ids=ids))
                    digests.append([ids, digest])
        return tuple(found), digests

    def _duplicates(self, stage: Stage) -> Iterator[Task]:
        assert stage.source is not None
        kind = stage.writes[0]
        records = self.results[stage.source]
        hashes = [(split, record.files[kind]) for split, record in sorted(records.items()) if kind in record.files]
        ignored = {split: self._drops(stage, split) for split, _ in hashes}
        inputs = [[split, file.checksum, ignored[split][1]] for split, file in hashes]
        width = 256 // self._plan.buckets
        for bucket in range(self._plan.buckets):
            yield DuplicatesTask(
                key=task_key(self._plan.definition(stage), [bucket * width, width, inputs]),
                stage=stage.number,
                name=stage.name,
                split=bucket,
                output=self._output,
                low=bucket * width,
                high=(bucket + 1) * width,
                hashes=tuple((split, file.path) for split, file in hashes),
                ignore={split: drops for split, (drops, _) in ignored.items() if drops},
            )

    def _vocabulary(self, stage: Stage) -> Iterator[Task]:
        assert stage.source is not None
        records = sorted(self.results[stage.source].items())
        samples = [record.files["sample"] for _, record in records if "sample" in record.files]
        yield VocabularyTask(
            key=task_key(self._plan.definition(stage), [file.checksum for file in samples]),
            stage=stage.number,
            name=stage.name,
            split=0,
            output=self._output,
            options=_plain(stage.steps[0]),
            samples=tuple(file.path for file in samples),
            bytes=sum(file.bytes for file in samples),
        )


def _plain(step: Any) -> dict[str, Any]:
    from datapipe.steps import plain_options

    return plain_options(step.options)


def _identity(split: Split) -> list[Any]:
    """What a split reads, without where it lies: names, etags, ranges."""
    return [
        [piece.file.name, piece.file.format, piece.file.size, piece.file.etag, piece.start, piece.end]
        for piece in split.pieces
    ]
