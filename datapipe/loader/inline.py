"""No threads: the consumer does everything itself, when it asks for a batch.

What enters: the course of an epoch. What leaves: its batches, in order. Invariant: never more blocks in memory than the
windows of the batch at hand need. Where batches are cheap (packed tokens from a warm page cache) this is the fastest
way: handing a batch from one thread to another costs more than making it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from datapipe.errors import ClosedError
from datapipe.loader.source import BatchSource

if TYPE_CHECKING:
    from datapipe.loader.block import Block
    from datapipe.loader.course import Course
    from datapipe.loader.filled import FilledBins
    from datapipe.loader.gather import Prepared
    from datapipe.loader.schedule import Schedule, Window
    from datapipe.loader.source import Counters


@final
class InlineSource(BatchSource):
    """Batches made on the calling thread."""

    def __init__(self, course: Course, counters: Counters) -> None:
        self._schedule: Schedule | None = course.schedule
        self._stages = course.stages
        self._counters = counters
        self._item = course.first_item
        # By window: two windows of a mix may hold the same block, at the end of a source's epoch and the next's start.
        self._windows: dict[Window, dict[int, Block]] = {}
        self._drops: list[Window] = []
        self._prepared: Prepared | FilledBins | None = None
        self._at = 0
        self._size = 0

    def next(self) -> Any:
        """The next batch."""
        if self._at == self._size:
            self._advance()
        batch, _ = self._stages.assemble(self._prepared, self._at, self._item - 1, sized=False)  # type: ignore[arg-type]  # advanced
        self._at += 1
        return batch

    def _advance(self) -> None:
        """Let go of what the stretch before needed, and read what the next one needs."""
        if self._schedule is None:
            raise ClosedError("this iterator was closed", fix="iterate over the loader again")
        stretch = self._schedule.next()
        if stretch is None:
            self.close()
            raise StopIteration
        self._prepared = None
        for window in self._drops:
            self._counters.held_bytes -= sum(block.nbytes for block in self._windows.pop(window).values())
        for window, numbers in stretch.reads:
            held = self._windows[window] = {}
            for number in numbers.tolist():
                held[number] = block = self._stages.load(number, self._item)
                self._item += 1
                self._counters.block_loaded(block.nbytes)
        self._drops = stretch.drops
        blocks = [block for window in stretch.windows for block in self._windows[window].values()]
        self._prepared = self._stages.prepare(stretch, blocks, self._item - 1)
        self._at, self._size = 0, len(stretch)

    def close(self) -> None:
        """Let go of everything."""
        self.abandon()

    def abandon(self) -> bool:
        """The same."""
        first = self._schedule is not None
        self._schedule = None
        self._prepared = None
        self._windows.clear()
        self._at = self._size = 0
        if first:  # ended before, the counter is another iterator's by now
            self._counters.held_bytes = 0
        return first
