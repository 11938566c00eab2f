"""The executor's book-keeping: which stretches are on their way, which blocks they wait for, which blocks are held.

What enters: stretches in order, blocks in any order. What leaves: the next block to read, and which stretch has all it
needs. Invariant: a block is held from when it was read until the last stretch that needs it is done; memory is counted
from when a read begins. Its owner calls it inside one lock; it starts nothing and waits for nothing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.loader.block import Block
    from datapipe.loader.course import Course
    from datapipe.loader.filled import FilledBins
    from datapipe.loader.gather import Prepared
    from datapipe.loader.schedule import Stretch
    from datapipe.loader.source import Counters


@final
class Read(NamedTuple):
    """A block to be read: its place in read order, its number, estimated bytes, its number in the spans, its epoch."""

    ordinal: int
    number: int
    nbytes: int
    item: int
    course: Course


@final
class Live:
    """A stretch on its way.

    Attributes:
        first: number of its first batch, counted through all courses.
        needs: ordinals of its blocks, in the order of `stretch.blocks`; missing: those not yet in memory.
        drops: ordinals that nobody needs after it.
        cause: the block (as numbered in spans) whose arrival completed it (-1: all had been there).
        begun, done: how many of its batches are begun, and finished.
    """

    __slots__ = (
        "begun", "cause", "course", "done", "drops", "first", "missing", "needs", "prepared", "preparing", "stretch",
    )  # fmt: skip

    def __init__(self, stretch: Stretch, course: Course, needs: list[int], missing: set[int], drops: list[int]) -> None:
        self.stretch = stretch
        self.course = course
        self.first = course.base + stretch.first
        self.needs = needs
        self.missing = missing
        self.drops = drops
        self.cause = -1
        self.preparing = False
        self.prepared: Prepared | FilledBins | None = None
        self.begun = 0
        self.done = 0

    def begin(self) -> int:
        """Take the next batch that nobody has begun: its place in the stretch."""
        self.begun += 1
        return self.begun - 1


@final
class Backlog:
    """Stretches, reads and blocks of one epoch, and of the next.

    Args:
        estimate: block number → bytes it will hold, before it is read.
    """

    def __init__(self, counters: Counters, estimate: Callable[[int], int]) -> None:
        self.live: deque[Live] = deque()
        self.reads: deque[Read] = deque()
        self._counters = counters
        self._estimate = estimate
        self._ordinal = 0
        self._blocks: dict[int, Block] = {}  # by ordinal: with padding, a block may be read twice in an epoch

    def admit(self, stretch: Stretch, course: Course) -> None:
        """The next stretch of a course."""
        for window, numbers in stretch.reads:
            ordinals = course.windows[window] = {}
            for number in numbers.tolist():
                ordinals[number] = self._ordinal
                item = course.first_item + course.reads
                self.reads.append(Read(self._ordinal, number, self._estimate(number), item, course))
                self._ordinal += 1
                course.reads += 1
        # By window: of a mix two may hold one block, at the end of a source's epoch and the start of its next.
        needs = [ordinal for window in stretch.windows for ordinal in course.windows[window].values()]
        missing = {ordinal for ordinal in needs if ordinal not in self._blocks}
        drops = [ordinal for window in stretch.drops for ordinal in course.windows.pop(window).values()]
        self.live.append(Live(stretch, course, needs, missing, drops))

    def begin_read(self) -> Read:
        """Take the next read; its estimated bytes count from now."""
        read = self.reads.popleft()
        self._counters.hold(read.nbytes)
        return read

    def arrived(self, read: Read, block: Block) -> bool:
        """A block is in memory; whether some stretch now has all it needs."""
        ordinal = read.ordinal
        self._counters.hold(-read.nbytes)
        self._counters.block_loaded(block.nbytes)
        self._blocks[ordinal] = block
        complete = False
        for live in self.live:
            if ordinal in live.missing:
                live.missing.discard(ordinal)
                live.cause = read.item
                complete = complete or not live.missing
        return complete

    def first_batch_waiting(self, ordinal: int, default: int) -> int:
        """The first batch that cannot be made without this block."""
        return min((live.first for live in self.live if ordinal in live.missing), default=default)

    def blocks_of(self, live: Live) -> list[Block]:
        """The blocks of a stretch that has all it needs."""
        return [self._blocks[ordinal] for ordinal in live.needs]

    def finish(self, live: Live, batches: int = 1) -> bool:
        """Batches of `live` are made; whether memory was let go, the stretches at the head being done."""
        live.done += batches
        released = False
        while self.live and self.live[0].done == len(self.live[0].stretch):
            released = True
            for ordinal in self.live.popleft().drops:
                self._counters.hold(-self._blocks.pop(ordinal).nbytes)
        return released

    def ahead(self) -> int:
        """Bytes in memory that only stretches after the first one need."""
        last = max(self.live[0].needs, default=-1) if self.live else -1
        return sum(block.nbytes for ordinal, block in self._blocks.items() if ordinal > last)

    def clear(self) -> None:
        """Let go of everything."""
        self.live.clear()
        self.reads.clear()
        self._blocks.clear()
