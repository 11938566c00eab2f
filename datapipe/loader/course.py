"""One epoch on its way through the executor: which batches it has, and the stages that make them.

What enters: the epoch's walk, its schedule and its stages. What leaves: nothing: it is what a stretch, a read and a
batch refer to when the batches of one epoch and the next are on their way together. Invariant: batches of all courses
of one source are numbered through (`base`), so that the executor need not know where one epoch ends to go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from datapipe.loader.schedule import Schedule, Window
    from datapipe.loader.sequence import EpochSequence
    from datapipe.loader.stages import Stages

UNKNOWN = 1 << 62
"""More batches than any epoch has, where their number is found out as it goes."""


@final
class Course:
    """One epoch of one rank, from some batch on.

    Args:
        start: its first batch. batches: of the whole epoch, `UNKNOWN` until it was planned.
        first_item: number of its first block in the spans. first_batch_item: and of the epoch's batch 0.

    Attributes:
        base: what a batch's number is more than within its epoch. windows: planned and not yet dropped: block number →
            ordinal; the backlog's.
    """

    __slots__ = (
        "base", "batches", "epoch", "first_batch_item", "first_item", "reads", "schedule", "stages", "start", "walk",
        "windows",
    )  # fmt: skip

    def __init__(
        self,
        epoch: int,
        walk: EpochSequence,
        schedule: Schedule,
        stages: Stages,
        *,
        start: int,
        batches: int,
        first_item: int,
        first_batch_item: int,
    ) -> None:
        self.epoch = epoch
        self.walk = walk
        self.schedule = schedule
        self.stages = stages
        self.start = start
        self.batches = batches
        self.first_item = first_item
        self.first_batch_item = first_batch_item
        self.base = 0
        self.reads = 0
        self.windows: dict[Window, dict[int, int]] = {}

    @property
    def end(self) -> int:
        """The number past its last batch."""
        return self.base + self.batches
