"""What there is to do for the batches of an epoch, and the doing of it: plan, fetch, decode, prepare, assemble.

What enters: the course of an epoch, and of the next. What leaves: finished batches in `ready`, and stretches from which
the consumer makes its own. Invariant: all that is shared is read and written inside `lock`; a task is marked as begun
when it is chosen, so that nobody else chooses it; none holds the lock while it works. Who runs tasks is `executor`.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.events import CHEAP_NS
from datapipe.loader.autotune_meter import Meter
from datapipe.loader.backlog import Backlog, Live
from datapipe.loader.course import UNKNOWN
from datapipe.loader.fetching import bring
from datapipe.storage.cancelling import ReadScope

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from concurrent.futures import Future

    from datapipe.dataset.fetch import Fetched
    from datapipe.loader.backlog import Read
    from datapipe.loader.course import Course
    from datapipe.loader.fetching import Fetching
    from datapipe.loader.source import Counters

    Task = Callable[[int], None]

_PLANNED: Final = 64
"""Stretches planned ahead at most, while there is nothing to read: they name the next reads. Of four, as it was, none
began a window when that was larger, and its blocks were all read when the first of them was wanted: documents came no
faster with threads than without. Half a MB of indices each, where rows are small."""
_PLANNED_FETCHING: Final = 32
"""At most so many where others fetch: those of a stretch may be fewer than are worth asking for at once."""
_REMEMBERED: Final = 8
"""Batches whose lower quartile says what one takes: a thread that lost its core says nothing of the work."""
_NEAR_END: Final = 0.75
"""The part of an epoch after which the next is begun, if there is nothing else to read: a loader that is iterated over
once wastes no more than threads that would idle."""


@final
class Workshop:
    """The work on one loader's batches.

    Args:
        prefetch, budget: batches and bytes ahead, as now.
        estimate: block number → bytes it will hold, before it is read.
        follow: makes the course after the one given, or None if there shall be none.
        fetching: where others than those who decode bring blocks' bytes near (`choose_fetch`).

    Attributes:
        course: the epoch that is delivered. tail: the one that is planned: that, or the next.
        delivered: number of the batch that the consumer has next. ready: batches made ahead, with their bytes.
        cheap: batches are left to the consumer. batch_bytes: of the last one.
        error: what went wrong, and the first batch that it strikes.
    """

    def __init__(
        self,
        course: Course,
        counters: Counters,
        *,
        prefetch: int,
        budget: int,
        estimate: Callable[[int], int],
        follow: Callable[[Course], Course | None],
        fetching: Fetching | None = None,
    ) -> None:
        self.course = self.tail = course
        self._follow = follow
        self._counters = counters
        self.delivered = course.start
        self.prefetch = prefetch
        self.budget = budget
        # Reentrant: the collector may run `close` on a thread that is inside the lock.
        self.lock = threading.RLock()
        self.for_threads = threading.Condition(self.lock)
        self.for_consumer = threading.Condition(self.lock)
        self.for_fetchers = threading.Condition(self.lock)
        self._fetching = fetching
        self.backlog = Backlog(counters, estimate)
        self.ready: dict[int, tuple[Any, int]] = {}
        self.batch_bytes = 0
        self.took: deque[int] = deque(maxlen=_REMEMBERED)
        self.cheap = False
        self.cheap_ns = CHEAP_NS
        self.error: tuple[int, BaseException] | None = None
        self.closed = False
        self.meter = Meter()
        self._reads = ReadScope()
        self._planning = False
        self._planned_all = False
        self._follow_from = UNKNOWN

    def close(self) -> bool:
        """Let go of everything and wake everybody; False if it had been closed before. Called inside the lock."""
        first = not self.closed
        self.closed = True
        self.for_threads.notify_all()
        self.for_consumer.notify_all()
        self.for_fetchers.notify_all()
        self.backlog.clear()
        if self._fetching is not None:
            self._fetching.clear()
        self.ready.clear()
        self._reads.close()
        return first

    def forked(self) -> None:
        """Have locks of its own, in a child of the process: a thread that the child has not may have held these."""
        self.lock = threading.RLock()
        self._reads = ReadScope()
        for name, each in list(vars(self).items()):
            if isinstance(each, threading.Condition):
                setattr(self, name, threading.Condition(self.lock))

    def moved_on(self) -> None:
        """The consumer has gone on: there may be room, or the next epoch to be begun. Called inside the lock."""
        if not self.cheap or self.delivered >= self._follow_from:
            self.for_threads.notify()
            self.for_fetchers.notify()

    def go_on(self) -> Course | None:
        """Deliver the next epoch, once this one is delivered; None: it is not, or something went wrong ahead."""
        with self.lock:
            while self._planning and self.tail is self.course and not self.closed:
                self.for_consumer.wait()
            if self.closed or self.error is not None or self.delivered < self.course.end:
                return None
            if self.tail is self.course and not self._begin(self._follow(self.course)):
                return None
            self.course = self.tail
            if self._planned_all:
                self._expect_next()
            self.meter.resume()
            self.for_threads.notify_all()
            return self.course

    def run(self, task: Task, idle_since: int) -> None:
        """Do it; what it raises is kept for the batch that it strikes.

        Args:
            idle_since: when this thread began to wait for work (ns), for the spans.
        """
        began, cpu = time.perf_counter_ns(), time.thread_time_ns()
        failed: _AtBatch | None = None
        try:
            with self._reads.entered():
                task(idle_since)
        except _AtBatch as failure:
            failed = failure
        took, used = time.perf_counter_ns() - began, time.thread_time_ns() - cpu
        done = getattr(task, "func", None)
        with self.lock:
            if done != self._fetch:  # of waiting there is no more with fewer threads, nor less with more
                self.meter.worked(took, used, load=done == self._decode)
            if failed is not None:
                if self.error is None or failed.batch < self.error[0]:
                    self.error = (failed.batch, failed.error)
                self.for_consumer.notify()

    def waits_for_room(self) -> int:
        """The batch (as numbered in spans) that could be begun were there room for it, or -1."""
        for live in self.backlog.live:
            if live.prepared is not None and live.begun < len(live.stretch):
                return live.course.first_batch_item + live.stretch.first + live.begun
            if live.prepared is None:
                break
        return -1

    def choose(self) -> Task | None:
        """The most downstream thing that may be done ahead, marked as begun. Called inside the lock."""
        limit = self.error[0] if self.error is not None else self.tail.end
        for place, live in enumerate(self.backlog.live):
            if live.first >= limit:
                break
            if live.prepared is not None:
                if live.begun == len(live.stretch):
                    continue
                if live.first + live.begun < limit and self._has_room(live.first + live.begun):
                    return functools.partial(self._assemble, live, live.begin())
                break
            prepare = self.choose_prepare(live) if place <= 1 else None
            if prepare is not None:
                return prepare
            break
        if self.error is not None:
            return None
        if self._fetching is not None:
            ahead = not self._fetching.at_hand
            more = ahead and not self.backlog.reads and len(self.backlog.live) < _PLANNED_FETCHING
            if more and self._counters.held_bytes < self.budget and (plan := self.choose_plan()) is not None:
                return plan
            decode = self.choose_decode()
            if decode is not None or ahead:
                return decode
        if self.backlog.reads:
            if self._counters.held_bytes + self.backlog.reads[0].nbytes <= self.budget:
                return self.choose_read()
            self.meter.unaffordable = True
            return None
        return self.choose_plan() if len(self.backlog.live) < _PLANNED else None

    def _has_room(self, batch: int) -> bool:
        if self.cheap:
            return False
        if batch >= self.delivered + self.prefetch:
            self.meter.full = True
            return False
        return self._counters.held_bytes + self.batch_bytes <= self.budget

    def choose_fetch(self) -> Task | None:
        """The next read, for one who only fetches. Called inside the lock."""
        fetching, reads = self._fetching, self.backlog.reads
        if fetching is None or fetching.at_hand or not reads or self.error is not None:
            return None
        if not fetching.has_room(reads[0]):
            return None
        if self._counters.held_bytes + reads[0].nbytes > self.budget:
            self.meter.unaffordable = True
            return None
        read = self.backlog.begin_read()
        fetching.begin(read)
        return functools.partial(self._fetch, read)

    def choose_decode(self, needed: Collection[int] | None = None) -> Task | None:
        """To decode what was fetched, if it is among the `needed` ordinals (None: whatever it is)."""
        first = None if self._fetching is None else self._fetching.first
        if first is None or (needed is not None and first not in needed):
            return None
        assert self._fetching is not None
        return functools.partial(self._decode, *self._fetching.take())

    def choose_read(self) -> Task:
        """The next read, whatever the budget."""
        return functools.partial(self._decode, self.backlog.begin_read(), None)

    def choose_prepare(self, live: Live) -> Task | None:
        """To find this stretch's rows, if its blocks are there and nobody is at it."""
        if live.missing or live.preparing:
            return None
        live.preparing = True
        return functools.partial(self._prepare, live)

    def choose_plan(self) -> Task | None:
        """The next stretch of this epoch or, once it is nearly delivered, the next epoch; if nobody is at it."""
        if self._planning:
            return None
        if not self._planned_all:
            self._planning = True
            return self._plan
        if self.tail is self.course and self.delivered >= self._follow_from:
            self._planning = True
            return self._begin_next
        return None

    def _plan(self, _since: int) -> None:
        course = self.tail
        try:
            stretch = course.schedule.next()
        except BaseException as error:
            self._planning = False
            raise _AtBatch(max(self.delivered, course.base), error) from None
        with self.lock:
            self._planning = False
            if self.closed:
                return
            if stretch is None:
                self._planned_all = True
                course.batches = min(course.batches, course.schedule.at)
                if course is self.course:
                    self._expect_next()
            else:
                self.backlog.admit(stretch, course)
            self.for_threads.notify_all()
            self.for_fetchers.notify_all()
            self.for_consumer.notify()

    def _expect_next(self) -> None:
        course = self.course
        self._follow_from = course.base + int(_NEAR_END * course.batches)

    def _begin_next(self, _since: int) -> None:
        course = self.course
        try:
            following = self._follow(course)
        except BaseException as error:
            self._planning = False
            raise _AtBatch(course.end, error) from None
        with self.lock:
            self._planning = False
            self._begin(following)
            self.for_threads.notify_all()
            self.for_consumer.notify()

    def _begin(self, following: Course | None) -> bool:
        """Plan this course from now on. Called inside the lock."""
        self._follow_from = UNKNOWN
        if following is None or self.closed:
            return False
        following.base = self.course.end
        self.tail = following
        self._planned_all = False
        return True

    def _fetch(self, read: Read, since: int) -> None:
        found = self._brought(read, since)
        assert self._fetching is not None
        with self.lock:
            if not self.closed:
                self._fetching.came(read, found)
                self.for_threads.notify()
                self.for_consumer.notify()

    def _brought(self, read: Read, since: int) -> Future[Fetched | None]:
        """Its bytes, or what was raised instead; whether they were at hand is remembered."""
        assert self._fetching is not None
        found, flag = bring(read, since)
        with self.lock:
            if self._fetching.saw(flag):
                self.for_fetchers.notify_all()
        return found

    def _decode(self, read: Read, fetched: Future[Fetched | None] | None, since: int) -> None:
        if fetched is None and self._fetching is not None:
            fetched = self._brought(read, since)
            since = 0
        try:
            block = read.course.stages.load(read.number, read.item, since, fetched)
        except BaseException as error:
            with self.lock:
                batch = self.backlog.first_batch_waiting(read.ordinal, self.delivered)
            raise _AtBatch(batch, error) from None
        with self.lock:
            if self.closed:
                return
            if self.backlog.arrived(read, block):
                self.for_threads.notify()
                self.for_consumer.notify()
            self.for_fetchers.notify()

    def _prepare(self, live: Live, since: int) -> None:
        with self.lock:
            if self.closed:
                return
            blocks = self.backlog.blocks_of(live)
        try:
            prepared = live.course.stages.prepare(live.stretch, blocks, live.cause, since)
        except BaseException as error:
            raise _AtBatch(live.first, error) from None
        with self.lock:
            live.prepared = prepared
            self.for_threads.notify_all()
            self.for_consumer.notify()

    def _assemble(self, live: Live, at: int, since: int) -> None:
        prepared = live.prepared
        assert prepared is not None
        began = time.perf_counter_ns()
        try:
            batch, size = live.course.stages.assemble(prepared, at, live.cause, since)
        except BaseException as error:
            raise _AtBatch(live.first + at, error) from None
        took = time.perf_counter_ns() - began
        with self.lock:
            if self.closed:
                return
            self.ready[live.first + at] = (batch, size)
            self._counters.ready += 1
            self._counters.hold(size)
            self.batch_bytes = size
            self.took.append(took)
            self.finish(live, 1)
            self.for_consumer.notify()

    def finish(self, live: Live, made: int) -> None:
        """Batches of a stretch are made. Called inside the lock."""
        self.cheap = sorted(self.took)[len(self.took) // 4] < self.cheap_ns
        if self.backlog.finish(live, made):
            self.meter.least_ahead = min(self.meter.least_ahead, self.backlog.ahead())
            self.for_threads.notify_all()
            self.for_fetchers.notify_all()


@final
class _AtBatch(Exception):  # noqa: N818  (not an error of its own: it carries one to the batch it strikes)
    def __init__(self, batch: int, error: BaseException) -> None:
        super().__init__()
        self.batch = batch
        self.error = error
