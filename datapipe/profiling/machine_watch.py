"""The machine during a run: counters read a few times a second, and the interpreter's lock probed.

What enters: start and stop. What leaves: a `Watched`: readings in order of time, what child processes moved, the delay
of the lock, and what watching cost.
Invariant: watching reads, and changes nothing; a thread of its own does it, so that the run's own threads never do. At
most `_MOST` readings are kept, evenly thinned; the first and the last always are.

Counters of child processes (a loader's workers) vanish with them. So they are read at every look, and what was last
seen of each is added up: at most a look's worth of an ended worker's work is missing.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.profiling.io_truth import stalled_share
from datapipe.profiling.lock_probe import LockDelay, LockProbe
from datapipe.profiling.process_counters import (
    ChildCounters,
    Counters,
    child_processes,
    memory_limit,
    read_child,
    read_counters,
    run_delays,
)

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL: Final = 0.5
"""Seconds between two looks: at 0.6 ms a look (measured on a machine of 2 cores), 0.12% of a core."""
_MOST: Final = 2_000


@final
@dataclass(frozen=True, kw_only=True)
class Watched:
    """What watching a run gave.

    Attributes:
        counters: readings in order of time, those of child processes added to the bytes, faults and CPU time.
        lock: the interpreter lock's delay; None: it was not probed.
        limit: bytes this process may use, and what limits it.
        cpu: ns of CPU time that watching took.
        stalled: share of the run in which some task of the machine waited for a core (PSI "some"); None: not told.
        probes: each time the lock was asked for: (when, on the spans' clock; how late it came), ns.
    """

    counters: tuple[Counters, ...]
    lock: LockDelay | None
    limit: tuple[int, str] | None
    cpu: int = 0
    probes: tuple[tuple[int, int], ...] = ()
    stalled: float | None = None


@final
class MachineWatch:
    """Watches from `start` to `stop`.

    Args:
        interval: seconds between two looks.
        look: reads the counters; given the children's process numbers.
        probe: whether to probe the interpreter's lock.
    """

    def __init__(
        self, *, interval: float = INTERVAL, look: Callable[..., Counters] = read_counters, probe: bool = True
    ) -> None:
        self._interval = interval
        self._look = look
        self._probe = LockProbe() if probe else None
        self._counters: list[Counters] = []
        self._children: dict[int, ChildCounters] = {}
        self._at_start: dict[int, ChildCounters] = {}
        self._delays: dict[int, int] = {}
        self._queued = 0
        self._stride = 1
        self._limit: tuple[int, str] | None = None
        self._cpu = 0
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="datapipe-watch", daemon=True)

    def start(self) -> None:
        """Take the first reading and begin."""
        self._limit = memory_limit()
        for child in child_processes():  # of before the run: only what they do from here on is the run's
            found = read_child(child)
            if found is not None:
                self._at_start[child] = found
        self._delays = run_delays(child_processes())
        self._take()
        self._thread.start()
        if self._probe is not None:
            self._probe.start()

    def stop(self) -> None:
        """Take the last reading and end."""
        self._done.set()
        if self._probe is not None:
            self._probe.stop()
        if self._thread.is_alive():
            self._thread.join()
        self._take()

    def watched(self) -> Watched:
        """What was seen until now."""
        lock = None if self._probe is None else self._probe.found()
        with self._lock:
            counters = tuple(self._counters)
        return Watched(
            counters=counters, lock=lock, limit=self._limit, cpu=self._cpu + (0 if lock is None else lock.cpu),
            probes=() if self._probe is None else self._probe.asked(), stalled=stalled_share(counters, 0),
        )  # fmt: skip

    def _watch(self) -> None:
        while not self._done.wait(self._interval * self._stride):
            self._take()
            self._cpu = time.thread_time_ns()

    def _take(self) -> None:
        with self._lock:
            children = child_processes()
            for child in children:
                found = read_child(child)
                if found is not None:
                    self._children[child] = found
            now = self._with_children(self._look(children=children))
            self._counters.append(dataclasses.replace(now, queued=self._waited_for_a_core(children, now.at)))
            if len(self._counters) > _MOST:
                del self._counters[1::2]
                self._stride *= 2

    def _waited_for_a_core(self, children: tuple[int, ...], at: int) -> int | None:
        """Ns until now in which a thread was ready and had no core: between two looks, as long as the worst had none.

        Several wait at once: their sum says nothing of the time, and their longest is the least that it was.
        """
        own = [] if self._probe is None else [self._probe.thread]
        leave_out = {thread.native_id for thread in (self._thread, *own) if thread.native_id is not None}
        before, self._delays = self._delays, run_delays(children, leave_out)
        if not self._delays:
            return None
        worst = max(ns - before.get(task, 0) for task, ns in self._delays.items())
        since = self._counters[-1].at if self._counters else at
        self._queued += max(0, min(worst, at - since))
        return self._queued

    def _with_children(self, own: Counters) -> Counters:
        def added(name: str) -> int:
            now = [int(getattr(child, name)) for child in self._children.values()]
            return sum(now) - sum(int(getattr(child, name)) for child in self._at_start.values())

        names = ("read_calls", "read_disk", "major_faults", "cpu")
        told = {name: getattr(own, name) + added(name) for name in names if getattr(own, name) is not None}
        return dataclasses.replace(own, **told)
