"""Which rows a batch that was delivered is made of, told from the order alone: nothing is kept while batches are made.

What enters: where a loader stands. What leaves: of the last batches, their epoch, their number in it and the numbers of
their rows, over all ranks. Invariant: the same on every rank, and what `RowKeys.rows` gave a transform, rank after
rank, but for rows of a quarantined row group, whose own numbers these are and not their substitutes'; no row is read.
An epoch that plans itself as it goes (packing) is planned again, up to the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datapipe.errors import ConfigError
from datapipe.loader.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.dataset import Dataset
    from datapipe.loader.mixture import Mixture
    from datapipe.loader.standing import Standing


def last_rows(standing: Standing, dataset: Dataset | Mixture, batches: int) -> list[dict[str, Any]]:
    """`[{"epoch": e, "batch": b, "rows": [numbers]}, …]` of the last `batches` global batches, the oldest first.

    Raises:
        ConfigError: fewer were delivered since the run's first, or since another snapshot was taken up.
    """
    found: list[dict[str, Any]] = []
    for epoch, batch in _last(standing):
        if len(found) == batches:
            break
        found.append({"epoch": epoch, "batch": batch, "rows": _rows(standing, dataset, epoch, batch)})
    if len(found) < batches:
        raise ConfigError(f"last_rows({batches}) after {len(found)}", expected="no more than were delivered")
    return found[::-1]


def _last(standing: Standing) -> Iterator[tuple[int, int]]:
    """(epoch, batch) of what was delivered, the newest first; what was skipped was not."""
    epoch, batch = standing.progress.epoch, standing.progress.position
    while True:
        while batch > 0:
            batch -= 1
            if not any(e == epoch and first <= batch < first + count for e, first, count in standing.skipped):
                yield epoch, batch
        if epoch <= standing.first:
            return
        epoch, batch = epoch - 1, standing.order.steps


def _rows(standing: Standing, dataset: Dataset | Mixture, epoch: int, batch: int) -> list[int]:
    stretch = Schedule(standing.order.epoch(epoch), rank=0, world_size=1, start=batch).next()
    assert stretch is not None
    part = slice(stretch.cuts[0], stretch.cuts[1])
    numbers: list[int] = dataset.row_numbers(stretch.blocks[stretch.slot[part]], stretch.row[part]).tolist()
    return numbers
