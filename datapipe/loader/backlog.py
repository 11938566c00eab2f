"""The executor's book-keeping: which stretches are on their way, which blocks they wait for, which blocks are held.

What enters: stretches in order, blocks in any order. What leaves: the next block to read, and which stretch has all it
needs. Invariant: a block is held from when it was read until the last stretch that needs it is done; memory is counted
from when a read begins. Its owner calls it inside one lock; it starts nothing and waits for nothing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.loader.block import Block
    from datapipe.loader.filled import FilledBins
    from datapipe.loader.gather import Prepared
    from datapipe.loader.schedule import Stretch, Window
    from datapipe.loader.source import Counters

    Read = tuple[int, int, int]  # ordinal in read order, block number, estimated bytes


@final
class Live:
    """A stretch on its way.

    Attributes:
        needs: ordinals of its blocks, in the order of `stretch.blocks`; missing: those not yet in memory.
        drops: ordinals that nobody needs after it.
        cause: the ordinal whose arrival completed it (-1: all had been there).
        begun, done: how many of its batches are begun, and finished.
    """

    __slots__ = ("begun", "cause", "done", "drops", "missing", "needs", "prepared", "preparing", "stretch")

    def __init__(self, stretch: Stretch, needs: list[int], missing: set[int], drops: list[int]) -> None:
        self.stretch = stretch
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
    """Stretches, reads and blocks of one epoch.

    Args:
        estimate: block number → bytes it will hold, before it is read.
    """

    def __init__(self, counters: Counters, estimate: Callable[[int], int]) -> None:
        self.live: deque[Live] = deque()
        self.reads: deque[Read] = deque()
        self._counters = counters
        self._estimate = estimate
        self._ordinal = 0
        self._windows: dict[Window, dict[int, int]] = {}  # planned and not yet dropped: block number → ordinal
        self._blocks: dict[int, Block] = {}  # by ordinal: with padding, a block may be read twice in an epoch

    def admit(self, stretch: Stretch) -> None:
        """The next stretch of the schedule."""
        for window, numbers in stretch.reads:
            ordinals = self._windows[window] = {}
            for number in numbers.tolist():
                ordinals[number] = self._ordinal
                self.reads.append((self._ordinal, number, self._estimate(number)))
                self._ordinal += 1
        where = {number: ordinal for ordinals in self._windows.values() for number, ordinal in ordinals.items()}
        needs = [where[number] for number in stretch.blocks.tolist()]
        missing = {ordinal for ordinal in needs if ordinal not in self._blocks}
        drops = [ordinal for window in stretch.drops for ordinal in self._windows.pop(window).values()]
        self.live.append(Live(stretch, needs, missing, drops))

    def begin_read(self) -> Read:
        """Take the next read; its estimated bytes count from now."""
        read = self.reads.popleft()
        self._counters.hold(read[2])
        return read

    def arrived(self, read: Read, block: Block) -> bool:
        """A block is in memory; whether some stretch now has all it needs."""
        ordinal, _, estimated = read
        self._counters.hold(-estimated)
        self._counters.block_loaded(block.nbytes)
        self._blocks[ordinal] = block
        complete = False
        for live in self.live:
            if ordinal in live.missing:
                live.missing.discard(ordinal)
                live.cause = ordinal
                complete = complete or not live.missing
        return complete

    def first_batch_waiting(self, ordinal: int, default: int) -> int:
        """The first batch that cannot be made without this block."""
        return min((live.stretch.first for live in self.live if ordinal in live.missing), default=default)

    def blocks_of(self, live: Live) -> list[Block]:
        """The blocks of a stretch that has all it needs."""
        return [self._blocks[ordinal] for ordinal in live.needs]

    def finish(self, live: Live) -> bool:
        """A batch of `live` is made; whether memory was let go, the stretches at the head being done."""
        live.done += 1
        released = False
        while self.live and self.live[0].done == len(self.live[0].stretch):
            released = True
            for ordinal in self.live.popleft().drops:
                self._counters.hold(-self._blocks.pop(ordinal).nbytes)
        return released

    def clear(self) -> None:
        """Let go of everything."""
        self.live.clear()
        self.reads.clear()
        self._windows.clear()
        self._blocks.clear()
