"""exact_duplicates, over the corpus: which rows have the hash of an earlier one.

Map tasks collect hashes (of contents, or of row ids), sorted; one task per bucket of hashes makes drop lists.
Invariant: of the rows that share a hash the first by (split, position) stays.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.preprocess.collectors import ArrayCollector
from datapipe.preprocess.duplicates_task import DuplicatesTask
from datapipe.preprocess.hashes import digests_of, digests_of_ids, encode_hashes
from datapipe.preprocess.near.record_file import CLASSES
from datapipe.preprocess.passes.contract import Pass
from datapipe.preprocess.prior_runs import of_classes
from datapipe.preprocess.stage import IDS, RUNS, Removal
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

HASHES: Final = "hashes"
_REMOVAL: Final = Removal(kind="duplicate", reason="duplicate", step="exact_duplicates")


@final
class HashCollector(ArrayCollector):
    """Content hashes and positions: 20 bytes a row are held."""

    kept = True

    def arrays(self, table: pa.Table) -> tuple[Any, ...]:
        """See `ArrayCollector.arrays`."""
        return digests_of(table.column("content_hash")), table.column(POSITION).to_numpy()

    def encoded(self, *arrays: Any) -> bytes:
        """See `ArrayCollector.encoded`."""
        return encode_hashes(*arrays)


@final
class IdCollector(ArrayCollector):
    """Hashes of row ids, of all rows that were read: an id is taken even where its row is dropped."""

    as_read = True
    kept = True

    def arrays(self, table: pa.Table) -> tuple[Any, ...]:
        """See `ArrayCollector.arrays`."""
        return digests_of_ids(table.column("row_id").to_pylist()), table.column(POSITION).to_numpy()

    def encoded(self, *arrays: Any) -> bytes:
        """See `ArrayCollector.encoded`."""
        return encode_hashes(*arrays)


@final
class ExactDuplicatesPass(Pass):
    """See the module."""

    step = "exact_duplicates"
    internal = ("content_hash",)
    collectors = MappingProxyType({HASHES: HashCollector, IDS: IdCollector})

    def lay_out(self, layout: Layout, step: RecipeStep, before: list[RecipeStep]) -> list[RecipeStep]:
        """See `Pass.lay_out`."""
        # Only rows that stay are hashed: the index that later deliveries are compared with names no others.
        before = layout.settled(before)
        rows = layout.changed(before)
        hashed = layout.map("clean" if rows else "hash", [*before, step], (*rows, HASHES))
        layout.drop_list(
            layout.add(
                "duplicates",
                "duplicates",
                layout.buckets,
                self.step,
                hashed,
                HASHES,
                _REMOVAL,
                steps=(step,),
                writes=(f"{HASHES}{RUNS}",),
            )
        )
        return []

    def tasks(self, stage: Stage, made: Made) -> Iterator[Task]:
        """See `Pass.tasks`."""
        assert stage.source is not None
        # What was there before comes first, so that it is what later rows repeat.
        before, runs = made.prior_runs(stage.source, stage.reads)
        hashes = [*before, *made.files(stage.source, stage.reads)]
        inputs = [[split, file.checksum] for split, file in hashes], [run.checksum for run in runs]
        width = 256 // stage.tasks
        classes = CLASSES // stage.tasks
        for bucket in range(stage.tasks):
            yield DuplicatesTask(
                key=task_key(made.plan.definition(stage), [bucket * width, width, made.plan.first_split, inputs]),
                stage=stage.number,
                name=stage.name,
                split=bucket,
                output=made.output,
                low=bucket * width,
                high=(bucket + 1) * width,
                hashes=tuple((split, file.path) for split, file in hashes),
                first=made.plan.first_split,
                runs=of_classes(runs, bucket * classes, (bucket + 1) * classes),
                keeps=stage.writes[0],
            )


PASS: Final = ExactDuplicatesPass()
