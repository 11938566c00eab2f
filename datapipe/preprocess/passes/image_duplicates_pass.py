"""image_duplicates, over the corpus: hashes → links → clusters → drop lists.

Map tasks collect the hashes of pictures; links between them are found by ranges of shared bits, and one task makes
clusters of the links. Invariant: of every cluster one picture stays (`clusters.cluster_table` says which); hashes stay
in the index, and a later delivery is compared with them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.preprocess.collectors import ArrayCollector
from datapipe.preprocess.near.image_links import ImageLinksTask, record_type
from datapipe.preprocess.passes.clustering import clusters_task
from datapipe.preprocess.passes.contract import Pass
from datapipe.preprocess.stage import Removal
from datapipe.preprocess.step_order import POSITION
from datapipe.preprocess.tasks import task_key
from datapipe.steps.image_bytes import HEIGHT, WIDTH
from datapipe.steps.image_check import PHASH
from datapipe.steps.image_duplicates import NEAR_DUPLICATE_IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from datapipe.preprocess.layout import Layout
    from datapipe.preprocess.made import Made
    from datapipe.preprocess.recipe import RecipeStep
    from datapipe.preprocess.stage import Stage
    from datapipe.preprocess.tasks import Task

HASHES: Final = "image_hashes"
LINKS: Final = "image_links"
CLUSTERS: Final = "image_clusters"
_WRITES: Final = "clusters"
_REMOVAL: Final = Removal(kind="duplicate", reason=NEAR_DUPLICATE_IMAGE, step="image_duplicates")


@final
class ImageHashCollector(ArrayCollector):
    """Hashes, positions and sizes of pictures that have a hash: 16 bytes a row are held."""

    kept = True

    def arrays(self, table: pa.Table) -> tuple[Any, ...]:
        """See `ArrayCollector.arrays`."""
        import numpy as np
        import pyarrow.compute as pc

        names = [name for name in (WIDTH, HEIGHT) if name in table.column_names]
        table = table.select([POSITION, PHASH, *names]).filter(pc.is_valid(table.column(PHASH)))
        records = np.zeros(table.num_rows, record_type())
        records["hash"] = table.column(PHASH).to_numpy().view(np.uint64)
        records["position"] = table.column(POSITION).to_numpy()
        if len(names) == 2:
            width, height = (np.asarray(pc.fill_null(table.column(name), 0)).astype(np.int64) for name in names)
            records["pixels"] = np.minimum(width * height, (1 << 32) - 1)
        return (records,)

    def encoded(self, *arrays: Any) -> bytes:
        """See `ArrayCollector.encoded`."""
        return b"".join(array.tobytes() for array in arrays)


@final
class ImageDuplicatesPass(Pass):
    """See the module."""

    step = "image_duplicates"
    collectors = MappingProxyType({HASHES: ImageHashCollector})

    def lay_out(self, layout: Layout, step: RecipeStep, before: list[RecipeStep]) -> list[RecipeStep]:
        """See `Pass.lay_out`."""
        # Only rows that stay are compared: an id seen twice must not keep the row that has it first.
        steps = [*layout.settled(before), step]
        # The hash is a column that stays, so the rows are written anew with it.
        hashed = layout.map("clean", steps, ("rows", HASHES))
        own: dict[str, Any] = {"steps": (step,)}
        links = layout.add("image links", LINKS, layout.buckets, self.step, hashed, HASHES, writes=("links",), **own)
        clusters = layout.add(
            "image clusters", CLUSTERS, 1, self.step, links, "links", _REMOVAL, writes=(_WRITES,), **own
        )
        layout.drop_list(clusters)
        return []

    def tasks(self, stage: Stage, made: Made) -> Iterator[Task]:
        """See `Pass.tasks`."""
        assert stage.source is not None
        if stage.kind == CLUSTERS:
            hashed = made.plan.stages[stage.source].source
            assert hashed is not None
            yield clusters_task(
                stage,
                made,
                links=made.files(stage.source, "links"),
                before=made.prior_files(stage.number, _WRITES),
                compared=hashed,
            )
            return
        options = stage.steps[0].options
        first = made.plan.first_split
        hashes = [*made.prior_files(stage.source, HASHES), *made.files(stage.source, HASHES)]
        inputs = [[split, file.checksum] for split, file in hashes]
        for part in range(stage.tasks):
            yield ImageLinksTask(
                key=task_key(made.plan.definition(stage), [first, part, stage.tasks, inputs]),
                stage=stage.number,
                name=stage.name,
                split=part,
                output=made.output,
                bytes=sum(file.bytes for _, file in hashes) // stage.tasks,
                hashes=tuple((split, file.path) for split, file in hashes),
                threshold=options.threshold,
                largest=options.survivor == "largest",
                part=part,
                parts=stage.tasks,
                first=first,
            )


PASS: Final = ImageDuplicatesPass()
