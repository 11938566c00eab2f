"""The staged executor: a few threads read, decode and assemble ahead of the consumer, within one byte budget.

What enters: the course of an epoch. What leaves: its batches, in order, whatever the number of threads. Invariants:

- At most `prefetch` batches are finished or in the making beyond the one the consumer asks for.
- Blocks and finished batches together stay within `budget` bytes, but for what the very next batch needs: that is
  always let in, so that a budget smaller than one block slows the loader down and never stops it.
- A consumer that would wait does the next thing its batch needs itself. So it can always go on alone, threads only
  ever add speed, and no lost wake-up can stop it.
- Threads wait on conditions; nothing polls. They hold no reference to the iterator, so an abandoned one is collected
  and ends them. `close` ends them from any state.
- When an epoch has nothing left to read and is nearly delivered, the next one is begun, by the same rules. It is taken
  over (`go_on`) or thrown away, and does not change what comes.

Every thread does whatever is furthest downstream (assemble, then prepare, then decode, then plan): finishing what was
begun frees memory and feeds the consumer soonest. But a batch that takes less time to make than to hand over is left
to the consumer: waking a thread and passing the interpreter lock to and fro cost 0.1 to 0.4 ms (measured on 2 cores:
84,000 rows/s of packed tokens with every batch handed over, 9 times less than without threads).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, final

from datapipe import events
from datapipe.errors import ClosedError
from datapipe.loader.autotune_meter import ROUND_BATCHES
from datapipe.loader.crew import JOIN_SECONDS, Crew, ends_at_exit
from datapipe.loader.fetching import FETCHERS
from datapipe.loader.source import BatchSource
from datapipe.loader.workshop import Workshop

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.loader.autotune import Tuner
    from datapipe.loader.backlog import Live
    from datapipe.loader.course import Course
    from datapipe.loader.fetching import Fetching
    from datapipe.loader.source import Counters
    from datapipe.loader.workshop import Task

_CLAIMED: Final = 32
"""Cheap batches that the consumer makes between two looks at the lock: some ms, in which no block is let go."""
_SHARED_NS: Final = 500_000
"""How long the consumer makes batches before it lets threads at work have the interpreter's lock. Making strings holds
it throughout, and a thread that asks for it, as it does several times a row group, is heard after the switch interval
of 5 ms. Measured beside a consumer that makes strings: a thread decodes 135 row groups per second of its CPU time, 210
with this, and 3% fewer strings are made. One sleep takes 65 µs: the thread has to wake up before the lock is taken."""


@final
class ThreadedSource(BatchSource):
    """Batches made by threads.

    Args:
        tuner: threads, prefetch and budget, now and as they change.
        estimate: block number → bytes it will hold, before it is read.
        follow: makes the course after the one given, or None if there shall be none.
        fetching: where blocks come from elsewhere: then threads of their own ask for them and wait.
    """

    def __init__(
        self,
        course: Course,
        counters: Counters,
        *,
        tuner: Tuner,
        estimate: Callable[[int], int],
        follow: Callable[[Course], Course | None],
        fetching: Fetching | None = None,
    ) -> None:
        self._counters = counters
        self._tuner = tuner
        self._shop = Workshop(
            course, counters, prefetch=tuner.prefetch, budget=tuner.budget, estimate=estimate, follow=follow,
            fetching=fetching,
        )  # fmt: skip
        self._claim: Live | None = None
        self._claim_from = self._claim_at = self._claim_to = 0
        self._shared = self._idle = 0
        self._times: list[int] = []
        ends_at_exit(self)
        with self._shop.lock:
            self._crew = Crew(self._work, tuner.threads)
            self._fetching = fetching
            self._fetchers = Crew(self._fetch, 0)
            self._call_fetchers()
        self._count_threads()

    @property
    def is_over(self) -> bool:
        """Whether the epoch was delivered and the next may be taken over."""
        return not self._shop.closed and self._shop.delivered >= self._shop.course.end

    @property
    def course(self) -> Course:
        """The epoch being delivered."""
        return self._shop.course

    @property
    def ready(self) -> bool:
        """Whether the next batch is made, or is made here in no time, or there is none."""
        shop = self._shop
        if self._claim is not None or shop.delivered in shop.ready or shop.delivered >= shop.course.end or shop.closed:
            return True
        with shop.lock:
            live = shop.backlog.live
            return shop.error is not None or (shop.cheap and bool(live) and live[0].prepared is not None)

    # ---- the consumer's side

    def next(self) -> Any:
        """The next batch: one made ahead, or made here as far as it is not."""
        shop = self._shop
        meter = shop.meter
        came = time.perf_counter_ns()
        gap = came - meter.left
        meter.own += gap
        if gap > meter.longest:  # noqa: PLR1730  (a call of `max` takes three times as long, per batch)
            meter.longest = gap
        live = self._claim
        if live is None:
            found = self._obtain()
            came = meter.left = time.perf_counter_ns()
            if isinstance(found, _Taken):
                self._count(came)
                return found.batch
            live = found
        elif shop.closed:
            raise _ended()
        # Made by the consumer: the short way, past the queue, every wake-up and nearly every lock.
        at = self._claim_at
        first = at == self._claim_from
        batch, size = live.course.stages.assemble(live.prepared, at, live.cause, sized=first)  # type: ignore[arg-type]  # prepared
        left = time.perf_counter_ns()
        took = left - came
        self._times.append(took)
        if first:
            shop.batch_bytes = size
        meter.made += took
        meter.left = left
        self._claim_at = at + 1
        shop.delivered += 1
        if at + 1 == self._claim_to or took > shop.cheap_ns:
            self._give_back(live)
        if left - self._shared > _SHARED_NS and self._idle < self._crew.wanted:
            time.sleep(0)
            self._shared = meter.left = time.perf_counter_ns()
        self._count(left)
        return batch

    def _count(self, now: int) -> None:
        """A batch was delivered; where that makes a round, let the tuner see it."""
        shop = self._shop
        meter = shop.meter
        meter.batches += 1
        if now < meter.due or meter.batches < ROUND_BATCHES:
            return
        with shop.lock:
            sample = meter.end(batch_bytes=shop.batch_bytes, cheap=shop.cheap)
            meter.start()
        if not self._tuner.observe(sample):  # outside the lock: it logs
            return
        with shop.lock:
            if not shop.closed:
                shop.prefetch, shop.budget = self._tuner.prefetch, self._tuner.budget
                self._crew.resize(self._tuner.threads)
                self._count_threads()
                shop.for_threads.notify_all()
                shop.for_fetchers.notify_all()

    def _call_fetchers(self) -> None:
        """Have those who fetch, once they are wanted: not as long as all is in a cache. Called inside the lock."""
        if self._fetching is not None and not self._fetching.at_hand and not self._fetchers.wanted:
            self._fetchers.resize(FETCHERS)
            self._count_threads()

    def _count_threads(self) -> None:
        self._counters.threads = self._crew.wanted + self._fetchers.wanted

    def _obtain(self) -> _Taken | Live:
        """The next batch, or the stretch it is to be made from here; whatever else it needs is waited for or done."""
        shop = self._shop
        waited = False
        while True:
            with shop.lock:
                found = self._take_or_choose()
                while found is None:
                    self._counters.waits += not waited
                    waited = True
                    began = time.perf_counter_ns()
                    shop.for_consumer.wait()
                    shop.meter.waited += time.perf_counter_ns() - began
                    found = self._take_or_choose()
            if not callable(found):
                return found
            began, cpu = time.perf_counter_ns(), time.thread_time_ns()
            shop.run(found, 0)
            shop.meter.helped += time.perf_counter_ns() - began
            shop.meter.helped_cpu += time.thread_time_ns() - cpu

    def _take_or_choose(self) -> _Taken | Live | Task | None:
        """The batch, or the stretch it can be made from here, or what else can be done for it here.

        None: somebody else is at it. Called inside the lock.
        """
        shop = self._shop
        if shop.closed:
            raise _ended()
        self._call_fetchers()
        batch = shop.delivered
        if batch >= shop.course.end:  # the next epoch's first batch may be ready
            raise StopIteration
        shop.meter.least_ready = min(shop.meter.least_ready, len(shop.ready))
        ready = shop.ready.pop(batch, None)
        if ready is not None:
            self._counters.ready -= 1
            self._counters.hold(-ready[1])
            shop.delivered += 1
            shop.moved_on()
            return _Taken(ready[0])
        if shop.error is not None and shop.error[0] <= batch:
            raise shop.error[1]
        if not shop.backlog.live:
            return shop.choose_plan()
        head = shop.backlog.live[0]
        if head.prepared is None:
            if (decode := shop.choose_decode(head.missing)) is not None:
                return decode
            if shop.backlog.reads and shop.backlog.reads[0].ordinal in head.missing:
                return shop.choose_read()
            return shop.choose_prepare(head)
        if batch != head.first + head.begun:
            return None
        most = min(len(head.stretch) - head.begun, _CLAIMED if shop.cheap else 1)
        if shop.error is not None:
            most = min(most, shop.error[0] - batch)
        self._claim = head
        self._claim_from = self._claim_at = head.begun
        head.begun = self._claim_to = head.begun + most
        return head

    def _give_back(self, live: Live) -> None:
        """The consumer has made what it claimed, or batches turned out dear: then threads may have the others."""
        shop = self._shop
        with shop.lock:
            if shop.closed:
                raise _ended()
            if self._claim_at < self._claim_to:
                if live.begun != self._claim_to:
                    return
                live.begun = self._claim_at
            self._claim = None
            shop.took.extend(self._times)
            self._times.clear()
            shop.finish(live, self._claim_at - self._claim_from)
            shop.moved_on()

    def go_on(self) -> Course | None:
        """Take over the next epoch, once this one is delivered: its course, of which batches may be ready already.

        None: it is not over, or something went wrong ahead; then close this source and begin anew.
        """
        return self._shop.go_on()

    def close(self) -> None:
        """End the threads and wait for them; one inside Arrow or a transform ends when that call returns."""
        if self.abandon():
            self.join(time.monotonic() + JOIN_SECONDS)

    def join(self, until: float) -> None:
        """Wait for the threads, once told to end, until that moment (monotonic seconds)."""
        alive = self._crew.join(until) + self._fetchers.join(until)
        if alive:
            self._counters.threads = alive

    def abandon(self) -> bool:
        """Tell the threads to end; False if they had been told before."""
        with self._shop.lock:
            first = self._shop.close()
            self._claim = None
            if first:  # ended before, the counters are another iterator's by now
                self._counters.ready = self._counters.held_bytes = self._counters.threads = 0
        return first

    def forked(self) -> None:
        """End, in a child of the process: who goes on there begins anew, and is told so."""
        self._shop.forked()
        self.abandon()

    # ---- the threads' side

    def _work(self, place: int) -> None:
        while True:
            task, idle_since = self._wait_for_task(place)
            if task is None:
                return
            self._shop.run(task, idle_since)
            del task  # it holds a stretch, and so its blocks

    def _fetch(self, place: int) -> None:
        shop = self._shop
        while True:
            since = 0 if events.active() is None else time.perf_counter_ns()
            with shop.lock:
                while not shop.closed and (task := shop.choose_fetch()) is None:
                    shop.for_fetchers.wait()
                if shop.closed:
                    self._fetchers.left(place)
                    return
            assert task is not None
            shop.run(task, since)
            del task

    def _wait_for_task(self, place: int) -> tuple[Task | None, int]:
        shop = self._shop
        recorder = events.active()
        since = 0 if recorder is None else time.perf_counter_ns()
        blocked = -1
        with shop.lock:
            while not shop.closed and place < self._crew.wanted:
                task = shop.choose()
                if task is not None:
                    break
                if recorder is not None and blocked < 0:
                    blocked = shop.waits_for_room()
                self._idle += 1
                shop.for_threads.wait()
                self._idle -= 1
            else:
                self._crew.left(place)
                return None, 0
        if recorder is not None and blocked >= 0:
            # Downstream was full: the time until there was room is backpressure, not want of input.
            now = time.perf_counter_ns()
            recorder.ring().write(recorder.stage("queue"), blocked, since, since, now, now)
            since = now
        return task, since


def _ended() -> ClosedError:
    return ClosedError("this iterator was closed", fix="iterate over the loader again")


@final
class _Taken:
    """A batch, told apart from something to do."""

    __slots__ = ("batch",)

    def __init__(self, batch: Any) -> None:
        self.batch = batch
