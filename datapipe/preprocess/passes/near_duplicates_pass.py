"""near_duplicates, over the corpus: bands → pairs → verified links → clusters → drop lists.

Map tasks collect band hashes and shingles; pairs are found by ranges of hashes, verified by ranges of pairs, and one
task makes clusters of the links. Invariant: of every cluster one document stays (`clusters.cluster_table` says which);
bands and shingles stay in the index, and a later delivery is compared with them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.preprocess.collectors import Collector
from datapipe.preprocess.near.candidates import band_records
from datapipe.preprocess.near.near_tasks import LinksTask, PairsTask, ranges_of
from datapipe.preprocess.near.record_file import RecordWriter
from datapipe.preprocess.near.sets_file import SetsWriter
from datapipe.preprocess.passes.clustering import clusters_task
from datapipe.preprocess.passes.contract import Pass
from datapipe.preprocess.prior_runs import of_classes
from datapipe.preprocess.stage import RUNS, Removal
from datapipe.preprocess.step_order import POSITION
from datapipe.preprocess.tasks import task_key
from datapipe.steps.near_duplicates import BANDS, NEAR_DUPLICATE, RULE, SCORE, SHINGLES, SIZE

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Iterator

    import pyarrow as pa

    from datapipe.preprocess.layout import Layout
    from datapipe.preprocess.made import Made
    from datapipe.preprocess.prior_runs import PriorRun
    from datapipe.preprocess.recipe import RecipeStep
    from datapipe.preprocess.stage import Stage
    from datapipe.preprocess.tasks import MapTask, OutputFile, Task
    from datapipe.preprocess.work import WorkFolder

BAND_FILES: Final = "bands"
SETS: Final = "sets"
PAIRS: Final = "pairs"
LINKS: Final = "links"
CLUSTERS: Final = "clusters"
BAND_RUNS: Final = f"{BAND_FILES}{RUNS}"
CLUSTER_RUNS: Final = f"{CLUSTERS}{RUNS}"
TASKS_A_BUCKET: Final = 8
"""A bucket is cut into so many tasks: band records take 24 bytes a band, where a content hash takes 20 a document."""
_REMOVAL: Final = Removal(kind="duplicate", reason=NEAR_DUPLICATE, step="near_duplicates")


@final
class BandCollector(Collector):
    """Band hashes, sorted: `record_file.SPILL` bytes are held."""

    kept = True

    def __init__(self, kind: str, task: MapTask, work: WorkFolder, stack: contextlib.ExitStack) -> None:
        super().__init__(kind, task, work, stack)
        self._writer = RecordWriter(kind, work, stack)

    def add(self, table: pa.Table) -> None:
        """See `Collector.add`."""
        import numpy as np

        if table.num_rows:
            column = table.column(BANDS).combine_chunks()
            width = column.type.byte_width // 8
            data = np.frombuffer(column.buffers()[1], "<u8").reshape(-1, width)
            bands = data[column.offset : column.offset + len(column)]
            positions, sizes = (table.column(name).to_numpy() for name in (POSITION, SIZE))
            self._writer.add(band_records(bands, positions, sizes))

    def finish(self) -> OutputFile | None:
        """See `Collector.finish`."""
        made = self._writer.finish()
        return self.work.keep_file(self.kind, made[0]) if made is not None else None


@final
class SetsCollector(Collector):
    """Shingles, sizes and scores of documents that have any: a batch, and 28 bytes a document, are held."""

    kept = True

    def __init__(self, kind: str, task: MapTask, work: WorkFolder, stack: contextlib.ExitStack) -> None:
        super().__init__(kind, task, work, stack)
        self._path = stack.enter_context(work.scratch_file(kind))
        self._writer = SetsWriter(self._path)
        stack.callback(self._writer.close)

    def add(self, table: pa.Table) -> None:
        """See `Collector.add`."""
        import pyarrow.compute as pc

        table = table.select([POSITION, SIZE, SCORE, SHINGLES]).filter(pc.greater(table.column(SIZE), 0))
        for batch in table.to_batches():
            positions, sizes, scores = (batch.column(name).to_numpy() for name in (POSITION, SIZE, SCORE))
            sets = batch.column(SHINGLES)
            self._writer.add(positions, sizes, scores, sets.values.to_numpy(), sets.offsets.to_numpy())

    def finish(self) -> OutputFile | None:
        """See `Collector.finish`."""
        self._writer.close()
        return self.work.keep_file(self.kind, self._path) if self._writer.rows else None


@final
class NearDuplicatesPass(Pass):
    """See the module."""

    step = "near_duplicates"
    internal = (BANDS, SHINGLES, SIZE, SCORE)
    collectors = MappingProxyType({BAND_FILES: BandCollector, SETS: SetsCollector})

    def lay_out(self, layout: Layout, step: RecipeStep, before: list[RecipeStep]) -> list[RecipeStep]:
        """See `Pass.lay_out`."""
        # Only rows that stay are compared: an id seen twice must not keep the row that has it first.
        before = layout.settled(before)
        rows = layout.changed(before)
        signed = layout.map("clean" if rows else "sign", [*before, step], (*rows, BAND_FILES, SETS))
        tasks = min(256, layout.buckets * TASKS_A_BUCKET)
        own: dict[str, Any] = {"steps": (step,)}
        pairs = layout.add("pairs", PAIRS, tasks, self.step, signed, BAND_FILES, writes=(PAIRS, BAND_RUNS), **own)
        links = layout.add("verify", LINKS, tasks, self.step, pairs, PAIRS, writes=(LINKS,), **own)
        clusters = layout.add(
            "clusters", CLUSTERS, 1, self.step, links, LINKS, _REMOVAL, writes=(CLUSTERS, CLUSTER_RUNS), **own
        )
        layout.drop_list(clusters)
        return []

    def tasks(self, stage: Stage, made: Made) -> Iterator[Task]:
        """See `Pass.tasks`."""
        if stage.kind == PAIRS:
            yield from self._pairs(stage, made)
        elif stage.kind == LINKS:
            yield from self._links(stage, made)
        else:
            yield self._clusters(stage, made)

    def _pairs(self, stage: Stage, made: Made) -> Iterator[Task]:
        assert stage.source is not None
        options = stage.steps[0].options
        before, runs = made.prior_runs(stage.source, BAND_FILES)
        bands = [*before, *made.files(stage.source, BAND_FILES)]
        for low, high, place in self._ranges(stage, made, bands, bands, runs):
            yield PairsTask(
                low=low,
                high=high,
                bands=_paths(bands),
                least=options.threshold if options.verify else 0.0,
                first=made.plan.first_split,
                runs=of_classes(runs, low, high),
                keeps=BAND_RUNS,
                **place,
            )

    def _links(self, stage: Stage, made: Made) -> Iterator[Task]:
        assert stage.source is not None
        options = stage.steps[0].options
        signed = self._signed(stage, made)
        pairs = made.files(stage.source, PAIRS)
        sets = [*made.prior_files(signed, SETS), *made.files(signed, SETS)]
        for low, high, place in self._ranges(stage, made, pairs, [*pairs, *sets]):
            yield LinksTask(
                low=low,
                high=high,
                pairs=_paths(pairs),
                sets=_paths(sets),
                threshold=options.threshold if options.verify else None,
                **place,
            )

    def _ranges(
        self,
        stage: Stage,
        made: Made,
        ranged: list[tuple[int, OutputFile]],
        read: list[tuple[int, OutputFile]],
        runs: tuple[PriorRun, ...] = (),
    ) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """(low, high, what every task has) for each task; `ranged`: of what is read, the files it reads a part of."""
        inputs = [[split, file.checksum] for split, file in read]
        for number, (low, high) in enumerate(ranges_of(stage.tasks)):
            what = [RULE, made.plan.first_split, low, high, inputs, [run.checksum for run in runs]]
            yield (
                low,
                high,
                {
                    "key": task_key(made.plan.definition(stage), what),
                    "stage": stage.number,
                    "name": stage.name,
                    "split": number,
                    "output": made.output,
                    "bytes": sum(file.bytes for _, file in ranged) // stage.tasks,
                },
            )

    def _clusters(self, stage: Stage, made: Made) -> Task:
        assert stage.source is not None
        links = made.files(stage.source, LINKS)
        before, found = made.prior_runs(stage.number, CLUSTERS)
        return clusters_task(
            stage,
            made,
            links=links,
            before=before,
            compared=self._signed(stage, made),
            rule=(RULE,),
            runs=found,
            keeps=CLUSTER_RUNS,
        )

    def _signed(self, stage: Stage, made: Made) -> int:
        """The map stage that the bands and sets are of."""
        while stage.reads != BAND_FILES:
            assert stage.source is not None
            stage = made.plan.stages[stage.source]
        assert stage.source is not None
        return stage.source


def _paths(files: list[tuple[int, OutputFile]]) -> tuple[tuple[int, str], ...]:
    return tuple((number, file.path) for number, file in files)


PASS: Final = NearDuplicatesPass()
