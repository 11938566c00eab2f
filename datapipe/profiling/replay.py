"""A workload done again by a discrete-event model of the staged pipeline; nothing runs and no clock is read.

What enters: a `Workload`. What leaves: when each step ended (ns).
Invariant: the same workload gives the same times; without contention a job takes its `cpu` and `idle` time, no less.

Threads of a pool take whatever is furthest downstream and allowed: what it needs is made, and it is not further ahead
of the loop than was seen. A loop that waits helps, where it was seen to. Computing threads share the cores equally
(processor sharing), and those of serial stages share one interpreter lock, as far as they hold it.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, final

from datapipe.profiling.cheap_batches import cheap_by_the_loop
from datapipe.profiling.lock_holders import MOSTLY

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.costs import Segment
    from datapipe.profiling.workload import Workload

_LOOP = -1
_LETS_GO = 50_000.0
"""Ns; who waits for longer than a hand-over has let go of the interpreter lock meanwhile."""


def replay(work: Workload) -> npt.NDArray[np.float64]:
    """When the loop was done with each batch; float64[takes], ns from the start."""
    import numpy as np

    return np.array(_Replay(cheap_by_the_loop(work)).run())


@final
class _Replay:
    """The state of one replay."""

    def __init__(self, work: Workload) -> None:
        self._work = work
        self._t = 0.0
        self._locked_out: set[int] = set()  # tasks that slept, and now want the lock
        self._sleeping: list[tuple[float, int, int]] = []  # (until, tie, task)
        self._computing: dict[int, float] = {}  # task → CPU ns left
        self._holds: dict[int, float] = {}  # task → share of its computing that needs the lock
        self._segments: dict[int, list[Segment]] = {}
        self._missing = [len(job.needs) for job in work.jobs]
        self._waiters: dict[int, list[int]] = {}
        for j, job in enumerate(work.jobs):
            for other in job.needs:
                self._waiters.setdefault(other, []).append(j)
        self._done = [False] * len(work.jobs)
        self._wanted = {take.job for take in work.takes if take.job >= 0}
        self._lying: list[int] = []  # batches made and not taken, in the order they were done
        # Per pool, (batch, job): batch jobs, and block jobs. Apart, as each kind has its own limit of batches ahead.
        self._ready: list[tuple[list[tuple[int, int]], list[tuple[int, int]]]] = [([], []) for _ in work.pools]
        for j, count in enumerate(self._missing):
            if count == 0:
                self._offer(j)
        self._free = list(work.pools)
        self._taken = 0
        self._loop = "ask"
        self._asked = 0.0
        self._helping = -1
        self._ended: list[float] = []

    def _offer(self, j: int) -> None:
        job = self._work.jobs[j]
        heapq.heappush(self._ready[job.pool][job.block], (job.batch, j))

    def _pick(self, pool: int, upto: int | None = None) -> int:
        """The job furthest downstream that may begin now, or -1."""
        blocks, batches = self._work.ahead[pool]
        for ready, ahead in zip(self._ready[pool], (batches, blocks), strict=True):
            if ready and ready[0][0] <= (self._taken + ahead if upto is None else upto):
                return heapq.heappop(ready)[1]
        return -1

    def _begin(self, task: int, segments: tuple[Segment, ...]) -> None:
        self._segments[task] = list(segments)[::-1]
        self._next(task)

    def _next(self, task: int) -> None:
        """Go on with a task: its next piece, or its end."""
        left = self._segments[task]
        if not left:
            del self._segments[task]
            self._finish(task)
            return
        segment = left.pop()
        if segment.cpu > 0:
            if segment.idle > 0:
                left.append(type(segment)(stage=segment.stage, cpu=0.0, idle=segment.idle))
            self._computing[task] = segment.cpu
            self._holds[task] = self._work.held.get(segment.stage, 1.0) if segment.stage in self._work.serial else 0.0
        else:
            heapq.heappush(self._sleeping, (self._t + segment.idle, task, task))
            if segment.idle >= _LETS_GO and self._work.switch:
                self._locked_out.add(task)

    def _finish(self, task: int) -> None:
        if task == _LOOP:
            if self._loop == "blind":
                self._take()
            else:
                self._ended.append(self._t)
                self._loop = "ask"
                self._asked = self._t
            return
        self._done[task] = True
        if not self._work.ordered and task in self._wanted:
            self._lying.append(task)
        if task == self._helping:
            self._helping = -1
        else:
            self._free[self._work.jobs[task].pool] += 1
        for other in self._waiters.get(task, ()):
            self._missing[other] -= 1
            if self._missing[other] == 0:
                self._offer(other)

    def _take(self) -> None:
        take = self._work.takes[self._taken]
        self._taken += 1
        self._loop = "compute"
        late = 0.0 if take.job < 0 else self._work.wake if self._t > self._asked else self._work.ready
        self._begin(_LOOP, (_idle(late), *take.work) if late else take.work)

    def _dispatch(self) -> None:
        """Start all that can start at this time."""
        again = True
        while again:
            again = False
            if self._loop == "ask" and self._helping < 0 and self._taken < len(self._work.takes):
                take = self._work.takes[self._taken]
                if take.job < 0:
                    again, self._loop = True, "blind"
                    self._begin(_LOOP, (_idle(take.blind),))
                elif self._done[take.job] if self._work.ordered else self._lying:
                    again = True
                    del self._lying[:1]
                    self._take()
            for pool in range(len(self._free)):
                while self._free[pool] and (j := self._pick(pool)) >= 0:
                    again = True
                    self._free[pool] -= 1
                    self._begin(j, self._work.jobs[j].work)
            if self._loop == "ask" and self._helping < 0 and self._taken < len(self._work.takes) and not again:
                for pool in self._work.helps:
                    if (j := self._pick(pool, upto=self._taken)) >= 0:
                        again, self._helping = True, j
                        self._begin(j, self._work.jobs[j].work)
                        break

    def _rates(self) -> dict[int, float]:
        serial = max(1.0, sum(self._holds[task] for task in self._computing))
        rate = {task: 1 / serial if self._holds[task] else 1.0 for task in self._computing}
        wanted = sum(rate.values())
        if wanted > self._work.cores:
            rate = {task: r * self._work.cores / wanted for task, r in rate.items()}
        return rate

    def run(self) -> list[float]:
        """Until the last batch is done with."""
        self._dispatch()
        while len(self._ended) < len(self._work.takes):
            rate = self._rates()
            until = self._sleeping[0][0] if self._sleeping else float("inf")
            ends = {task: self._t + left / rate[task] for task, left in self._computing.items()}
            now = min(until, min(ends.values(), default=float("inf")))
            if now == float("inf"):
                break  # nothing can go on: what is left was never begun in the recording
            passed, self._t = now - self._t, now
            done = []
            for task in self._computing:
                self._computing[task] -= passed * rate[task]
                # By its end too: of a time so long that what is left is less than its last place, nothing passes.
                if self._computing[task] <= 1e-3 or ends[task] <= now:
                    done.append(task)
            while self._sleeping and self._sleeping[0][0] <= now:
                task = heapq.heappop(self._sleeping)[2]
                left = [
                    ns for other, ns in self._computing.items() if self._holds[other] > MOSTLY and other not in done
                ]
                if task in self._locked_out and left:
                    # It gets the lock when its holder is through, or has to give it up.
                    heapq.heappush(self._sleeping, (now + min(self._work.switch, *left), task, task))
                else:
                    done.append(task)
                self._locked_out.discard(task)
            for task in done:
                self._computing.pop(task, None)
                self._next(task)
            self._dispatch()
        return self._ended


def _idle(ns: float) -> Segment:
    from datapipe.profiling.costs import Segment

    return Segment(stage="loader", cpu=0.0, idle=ns)
