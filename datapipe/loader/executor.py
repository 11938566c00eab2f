"""The staged executor: a few threads read, decode and assemble ahead of the consumer, within one byte budget.

What enters: a schedule and the stages. What leaves: batches, in order, whatever the number of threads. Invariants:

- At most `prefetch` batches are finished or in the making beyond the one the consumer asks for.
- Blocks and finished batches together stay within `budget` bytes, but for what the very next batch needs: that is
  always let in, so that a budget smaller than one block slows the loader down and never stops it.
- Threads wait on one condition; nothing polls. They hold no reference to the iterator, so an abandoned one is
  collected and ends them. `close` ends them from any state.

Every thread does whatever is furthest downstream (assemble, then prepare, then decode, then plan): finishing what was
begun frees memory and feeds the consumer soonest.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, final

from datapipe import events
from datapipe.errors import ClosedError
from datapipe.loader.source import BatchSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.loader.block import Block
    from datapipe.loader.gather import Prepared
    from datapipe.loader.schedule import Schedule, Stretch, Window
    from datapipe.loader.source import Counters
    from datapipe.loader.stages import Stages

    Task = Callable[[int], None]

_PLANNED: Final = 4
"""Stretches planned ahead of the one being delivered: enough to find the next reads, a few hundred kB of indices."""
_JOIN_SECONDS: Final = 1.0


@final
class _Live:
    """A stretch on its way: which reads it waits for, and how far its batches are."""

    __slots__ = ("begun", "cause", "done", "drops", "missing", "needs", "prepared", "preparing", "stretch")

    def __init__(self, stretch: Stretch, needs: list[int], drops: list[int]) -> None:
        self.stretch = stretch
        self.needs = needs  # ordinals of its blocks, in the order of stretch.blocks
        self.drops = drops  # ordinals that nobody needs after it
        self.missing: set[int] = set()
        self.cause = -1
        self.preparing = False
        self.prepared: Prepared | None = None
        self.begun = 0
        self.done = 0


@final
class ThreadedSource(BatchSource):
    """Batches made by threads.

    Args:
        start: number of the first batch. threads: how many, ≥ 1. prefetch: batches ahead, ≥ 1. budget: bytes.
        estimate: block number → bytes it will hold, before it is read.
        first_item: number of the first block in the spans.
    """

    def __init__(
        self,
        schedule: Schedule,
        stages: Stages,
        counters: Counters,
        *,
        start: int,
        end: int,
        threads: int,
        prefetch: int,
        budget: int,
        estimate: Callable[[int], int],
        first_item: int,
        first_batch_item: int,
    ) -> None:
        self._schedule = schedule
        self._stages = stages
        self._counters = counters
        self._delivered = start
        self._end = end
        self._prefetch = prefetch
        self._budget = budget
        self._estimate = estimate
        self._first_item = first_item
        self._first_batch_item = first_batch_item
        # Reentrant: the collector may run `close` on a thread that is inside the lock.
        self._changed = threading.Condition(threading.RLock())
        self._live: deque[_Live] = deque()
        self._reads: deque[tuple[int, int, int]] = deque()  # (ordinal, block number, estimated bytes)
        self._ordinal = 0
        self._windows: dict[Window, dict[int, int]] = {}  # planned and not yet dropped: block number → ordinal
        self._blocks: dict[int, Block] = {}  # by ordinal
        self._ready: dict[int, tuple[Any, int]] = {}
        self._batch_bytes = 0
        self._planning = False
        self._planned_all = False
        self._error: tuple[int, BaseException] | None = None
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"datapipe-loader-{i}", daemon=True) for i in range(threads)
        ]
        counters.threads = threads
        for thread in self._threads:
            thread.start()

    # ---- the consumer's side

    def next(self) -> Any:
        """The next batch, waiting for it if need be."""
        with self._changed:
            waited = False
            while True:
                if self._closed:
                    raise ClosedError("this iterator was closed", fix="iterate over the loader again")
                ready = self._ready.pop(self._delivered, None)
                if ready is not None:
                    break
                if self._delivered >= self._end:
                    self.close()
                    raise StopIteration
                if self._error is not None and self._error[0] <= self._delivered:
                    error = self._error[1]
                    self.close()
                    raise error
                if not waited:
                    waited = True
                    self._counters.waits += 1
                self._changed.wait()
            self._delivered += 1
            self._counters.ready -= 1
            self._counters.hold(-ready[1])
            self._changed.notify_all()
            return ready[0]

    def close(self) -> None:
        """End the threads and wait for them; one inside Arrow or a transform ends when that call returns."""
        if self.abandon():
            until = time.monotonic() + _JOIN_SECONDS
            for thread in self._threads:
                if thread is not threading.current_thread():
                    thread.join(max(0.0, until - time.monotonic()))
            self._counters.threads = sum(thread.is_alive() for thread in self._threads)

    def abandon(self) -> bool:
        """Tell the threads to end; False if they had been told before."""
        with self._changed:
            first = not self._closed
            self._closed = True
            self._changed.notify_all()
            self._live.clear()
            self._reads.clear()
            self._ready.clear()
            self._blocks.clear()
            self._windows.clear()
            self._counters.ready = self._counters.held_bytes = self._counters.threads = 0
        return first

    # ---- the threads' side

    def _work(self) -> None:
        while True:
            task, idle_since = self._wait_for_task()
            if task is None:
                return
            try:
                task(idle_since)
            except _AtBatch as failure:
                with self._changed:
                    if self._error is None or failure.batch < self._error[0]:
                        self._error = (failure.batch, failure.error)
                    self._changed.notify_all()
            del task

    def _wait_for_task(self) -> tuple[Task | None, int]:
        recorder = events.active()
        since = 0 if recorder is None else time.perf_counter_ns()
        blocked = -1
        with self._changed:
            while not self._closed:
                task = self._choose()
                if task is not None:
                    break
                if recorder is not None and blocked < 0:
                    blocked = self._waits_for_room()
                self._changed.wait()
            else:
                return None, 0
        if recorder is not None and blocked >= 0:
            # Downstream was full: the time until there was room is backpressure, not want of input.
            now = time.perf_counter_ns()
            item = self._first_batch_item + blocked
            recorder.ring().write(recorder.stage("queue"), item, since, since, now, now)
            since = now
        return task, since

    def _waits_for_room(self) -> int:
        """The batch that could be begun were there room for it, or -1."""
        for live in self._live:
            if live.prepared is not None and live.begun < len(live.stretch):
                return live.stretch.first + live.begun
            if live.prepared is None:
                break
        return -1

    def _choose(self) -> Task | None:
        """The most downstream thing that may be done now, marked as begun. Called inside the lock."""
        limit = self._error[0] if self._error is not None else self._end
        for place, live in enumerate(self._live):
            first = live.stretch.first
            if first >= limit:
                break
            if live.prepared is not None:
                batch = first + live.begun
                if live.begun == len(live.stretch):
                    continue
                if batch < limit and self._has_room(batch):
                    live.begun += 1
                    return lambda since: self._assemble(live, batch - first, since)
                break
            if live.missing or live.preparing or place > 1:
                break
            live.preparing = True
            return lambda since: self._prepare(live, since)
        if self._reads and self._error is None:
            ordinal, number, size = self._reads[0]
            if self._counters.held_bytes + size <= self._budget or self._is_needed_now(ordinal):
                self._reads.popleft()
                self._counters.hold(size)
                return lambda since: self._decode(ordinal, number, size, since)
        if not (self._planning or self._planned_all or self._error) and (
            len(self._live) < 2 or (len(self._live) < _PLANNED and not self._reads)
        ):
            self._planning = True
            return self._plan
        return None

    def _has_room(self, batch: int) -> bool:
        if batch == self._delivered:
            return True
        return (
            batch < self._delivered + self._prefetch and self._counters.held_bytes + self._batch_bytes <= self._budget
        )

    def _is_needed_now(self, ordinal: int) -> bool:
        """Whether the consumer's next batch cannot be begun without this block."""
        head = self._live[0]
        return head.stretch.first + head.begun == self._delivered and ordinal in head.missing

    def _plan(self, _since: int) -> None:
        try:
            stretch = self._schedule.next()
        except BaseException as error:
            raise _AtBatch(self._delivered, error) from None
        with self._changed:
            self._planning = False
            if self._closed:
                return
            if stretch is None:
                self._planned_all = True
            else:
                self._admit(stretch)
            self._changed.notify_all()

    def _admit(self, stretch: Stretch) -> None:
        for window, numbers in stretch.reads:
            ordinals = self._windows[window] = {}
            for number in numbers.tolist():
                ordinals[number] = self._ordinal
                self._reads.append((self._ordinal, number, self._estimate(number)))
                self._ordinal += 1
        where = {number: ordinal for ordinals in self._windows.values() for number, ordinal in ordinals.items()}
        needs = [where[number] for number in stretch.blocks.tolist()]
        missing = {ordinal for ordinal in needs if ordinal not in self._blocks}
        drops = [ordinal for window in stretch.drops for ordinal in self._windows.pop(window).values()]
        live = _Live(stretch, needs, drops)
        live.missing = missing
        self._live.append(live)

    def _decode(self, ordinal: int, number: int, estimated: int, since: int) -> None:
        try:
            block = self._stages.load(number, self._first_item + ordinal, since)
        except BaseException as error:
            with self._changed:
                first = [live.stretch.first for live in self._live if ordinal in live.missing]
            raise _AtBatch(min(first, default=self._delivered), error) from None
        with self._changed:
            if self._closed:
                return
            self._counters.hold(-estimated)
            self._counters.block_loaded(block.nbytes)
            self._blocks[ordinal] = block
            for live in self._live:
                if ordinal in live.missing:
                    live.missing.discard(ordinal)
                    live.cause = self._first_item + ordinal
            self._changed.notify_all()

    def _prepare(self, live: _Live, since: int) -> None:
        with self._changed:
            if self._closed:
                return
            blocks = [self._blocks[ordinal] for ordinal in live.needs]
        try:
            prepared = self._stages.prepare(live.stretch, blocks, live.cause, since)
        except BaseException as error:
            raise _AtBatch(live.stretch.first, error) from None
        with self._changed:
            live.prepared = prepared
            self._changed.notify_all()

    def _assemble(self, live: _Live, at: int, since: int) -> None:
        prepared = live.prepared
        assert prepared is not None
        try:
            batch, size = self._stages.assemble(prepared, at, live.cause, since)
        except BaseException as error:
            raise _AtBatch(live.stretch.first + at, error) from None
        with self._changed:
            if self._closed:
                return
            self._ready[live.stretch.first + at] = (batch, size)
            self._counters.ready += 1
            self._counters.hold(size)
            self._batch_bytes = size
            live.done += 1
            while self._live and self._live[0].done == len(self._live[0].stretch):
                for ordinal in self._live.popleft().drops:
                    self._counters.hold(-self._blocks.pop(ordinal).nbytes)
            self._changed.notify_all()


@final
class _AtBatch(Exception):  # noqa: N818  (not an error of its own: it carries one to the batch it strikes)
    def __init__(self, batch: int, error: BaseException) -> None:
        super().__init__()
        self.batch = batch
        self.error = error
