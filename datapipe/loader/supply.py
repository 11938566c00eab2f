"""What makes the batches of a loader: a course for any of its epochs, and the source that walks it.

What enters: the loader's plan, once; then an epoch and where to begin. What leaves: a `BatchSource`. Invariant: it
knows nothing of the loader or its iterators, so that the threads, which know it, keep neither alive.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.loader.course import UNKNOWN, Course
from datapipe.loader.executor import ThreadedSource
from datapipe.loader.fetching import fetching_for
from datapipe.loader.inline import InlineSource
from datapipe.loader.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.dataset import Dataset
    from datapipe.loader.autotune import Tuner
    from datapipe.loader.sequence import EpochSequence, Sequence
    from datapipe.loader.shaping import Shaping
    from datapipe.loader.source import BatchSource, Counters
    from datapipe.loader.stages import Stages
    from datapipe.loader.substitutes import Substitutes

_STRETCH_BYTES: Final = 8 << 20
"""Rows of strings and lists prepared together hold about this much."""
_STRETCH_ROWS: Final = 1 << 15
"""Rows planned together: of fewer, the calls cost more than the rows."""
_NUMBERED: Final = 1 << 40
"""More batches than any epoch has, where their number is found out as it goes."""


def numbered(order: Sequence) -> int:
    """How far apart the numbers of two epochs' batches are, in spans."""
    return order.steps if order.steady else _NUMBERED


@final
@dataclass(kw_only=True, eq=False)
class Supply:
    """Makes courses and sources for one loader.

    Attributes:
        stages: epoch=…, steps=…, substitutes=… → the stages of that epoch. substitutes: walk, epoch=… → what stands in
            for bad row groups; None: nothing. by_row: rows are of one width: they are found at no cost.
        keeps: whether a source that is through with its epoch shall go on to the next; not once the loader is gone.
        kept: such a source, between two epochs.
    """

    dataset: Dataset
    shaping: Shaping
    stages: Callable[..., Stages]
    by_row: bool
    padded: bool
    rank: int
    world_size: int
    tuner: Tuner
    counters: Counters
    substitutes: Callable[..., Substitutes] | None = None
    keeps: bool = True
    kept: ThreadedSource | None = None

    def course(self, walk: EpochSequence, epoch: int, start: int = 0) -> Course:
        """One epoch from batch `start` on."""
        order, index = walk.order, self.dataset.index
        rows = _STRETCH_ROWS
        if not self.by_row:
            rows = min(rows, max(1, _STRETCH_BYTES * int(index.rows.sum()) // max(1, int(index.bytes.sum()))))
        units = self.shaping.units_at_once(rows, _STRETCH_BYTES)
        return Course(
            epoch,
            walk,
            Schedule(walk, rank=self.rank, world_size=self.world_size, start=start, max_rows=units),
            self.stages(
                epoch=epoch,
                steps=numbered(order),
                substitutes=None if self.substitutes is None else self.substitutes(walk, epoch=epoch),
            ),
            start=start,
            batches=order.steps if order.steady else UNKNOWN,
            # Padding reads the epoch's first windows again: then an epoch may take more reads than there are blocks.
            first_item=epoch * len(index) * (2 if self.padded else 1),
            first_batch_item=epoch * numbered(order),
        )

    def source(self, walk: EpochSequence, epoch: int, start: int) -> BatchSource:
        """The batches of an epoch from `start` on."""
        course = self.course(walk, epoch, start)
        if not self.tuner.prefetch:
            return InlineSource(course, self.counters)
        index = self.dataset.index
        self.tuner.begin()
        return ThreadedSource(
            course,
            self.counters,
            tuner=self.tuner,
            estimate=lambda number: int(index.bytes[number]),
            follow=self._follow,
            fetching=fetching_for(self.dataset),
        )

    def _follow(self, course: Course) -> Course | None:
        if not self.keeps:
            return None
        epoch = course.epoch + 1
        return self.course(course.walk.order.epoch(epoch), epoch)

    def put_away(self, source: BatchSource) -> None:
        """An iterator is through with its source, or was dropped: keep it if its epoch is over. Never waits."""
        if self.keeps and isinstance(source, ThreadedSource) and source.is_over:
            before, self.kept = self.kept, source
            if before is not None and before is not source:
                before.abandon()
        else:
            source.abandon()

    def take_over(self, order: Sequence, epoch: int, start: int) -> ThreadedSource | None:
        """The source kept, at the start of this epoch; None: there is none, or it is elsewhere and was ended."""
        source, self.kept = self.kept, None
        if source is None:
            return None
        taken = False
        try:
            if not start and source.course.walk.order is order and source.course.epoch + 1 == epoch:
                taken = source.go_on() is not None
        finally:
            if not taken:
                source.close()
        return source if taken else None

    def keep_only(self, order: Sequence, epoch: int, start: int) -> None:
        """Throw away what was read ahead, unless it is this."""
        source = self.kept
        if source is not None and (start or source.course.walk.order is not order or source.course.epoch + 1 != epoch):
            self.close()

    def close(self) -> None:
        """End the source kept, and wait for it."""
        source, self.kept = self.kept, None
        if source is not None:
            source.close()

    def ends_with(self, loader: object) -> None:
        """Keep nothing for a loader that is gone."""
        weakref.finalize(loader, _retire, weakref.ref(self)).atexit = False  # see `crew`


def _retire(reference: weakref.ref[Supply]) -> None:
    supply = reference()
    if supply is not None:
        supply.keeps = False
        source, supply.kept = supply.kept, None
        if source is not None:
            source.abandon()
