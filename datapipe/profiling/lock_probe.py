"""How long a thread that wants the interpreter's lock waits for it: measured by asking for it, now and then.

What enters: a run's threads, which know nothing of this. What leaves: a `LockDelay`: how often the lock was taken, and
how late a thread got it.
Invariant: the probe asks at most `1 / interval` times a second (a short run's first `_EARLY` probes come faster, so
that it has some too), so what it can cost is bounded: one hand-over of the lock each (0.01 to 0.1 ms), and its own CPU
time, which is measured and published.

A probe sleeps for some milliseconds, without the lock, and asks for it as it wakes: what it is late by is the delay.
How long it sleeps differs from probe to probe and covers `_NAPS` evenly. A probe begins when the thread that waits for
the next one gets the lock, so when a holder has just let go: after equal naps all of them would ask at the same place
of a regular loop (measured: 13 of 15 while it decoded, 2 in the transform that held the lock for 80% of the time). A
free lock is there at once, but for the timer slack of the kernel (50 µs by default: prctl(2)) and the wake-up. A lock
that another thread holds comes when that thread lets go, or when Python makes it, after the switch interval (5 ms:
`sys.getswitchinterval`). A system call that returns at once would not do for a probe: the thread that gave the lock up
has it back before those that wait for it have woken (measured: two threads that compute went unseen). Time the kernel
kept the probe off a CPU although it was ready is no fault of the lock: it is read from the thread's `schedstat`
(run-queue time, Documentation/scheduler/sched-stats.rst) and taken off.

The probe's thread has the run's own priority. With a lower one the kernel could put it aside while it holds the lock,
and every other thread would wait for it: the measurement would make what it measures. A build without the lock
(PEP 703, `sys._is_gil_enabled()` false) has nothing to wait for, and no probe runs.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.profiling.loader_facts import DATAPIPE, TORCH

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERVAL: Final = 0.1
"""Seconds between two probes: 10 hand-overs a second; with their 0.14 ms of CPU time (measured) 0.14% of a core."""
TAKEN_NS: Final = 300_000
"""A delay above this found the lock taken: waking up with a free one takes 50 to 150 µs (measured)."""
_NAPS: Final = (500_000, 10_500_000)
"""Ns; from the least to the most: two switch intervals, so that a loop's every part comes up."""
_GOLDEN: Final = 0.6180339887498949
"""Multiples of the golden ratio's fraction fill an interval evenly from the first on (Knuth, TAOCP 3, 6.4)."""
_EARLY: Final = 40
_EARLY_INTERVAL: Final = 0.02
"""Seconds between a run's first probes: one second has 40, enough to say who holds the lock (`lock_holders`)."""
CONTENDED: Final = 0.25
"""Share of probes that found the lock taken and waited a switch interval's half, from which it is called contended."""
_INSTEAD: Final = {
    DATAPIPE: 'move Python code out of the transform, or use workers="process"',
    TORCH: "do less in Python in the dataset and its collate_fn beside the loop, or leave it to the processes of"
    " DataLoader(…, num_workers=N), each with a lock of its own",
}
_ANYHOW: Final = "make the batches with less Python code, or in another process"
_MOST: Final = 20_000
ENOUGH: Final = 20


@final
@dataclass(frozen=True, kw_only=True)
class LockDelay:
    """How late a thread got the interpreter's lock. Times in ns.

    Attributes:
        enabled: whether this build has the lock at all; if not, the other figures are 0.
        probes: how often it was asked for.
        taken: share of probes that found it taken.
        mean, p50, p95, worst: the delay.
        switch: the interpreter's switch interval: a thread that holds the lock is asked for it after this time.
        contended: share of probes that were kept waiting for half a switch interval or more.
        cpu: CPU time that the probe used.
        held_up: the stage or part of the loop that lost time to it; "": none that it made a difference for.
        lost: ns a step that it lost.
        loader: the loader that was used (`loader_facts`), "" for one that is not known.
    """

    enabled: bool
    probes: int
    taken: float
    mean: float
    p50: float
    p95: float
    worst: float
    switch: float
    contended: float
    cpu: int
    held_up: str = ""
    lost: float = 0.0
    loader: str = ""

    @property
    def warning(self) -> str | None:
        """What to tell the user, or None: a late probe is no loss, so some stage must have been held up."""
        if not self.enabled or self.probes < ENOUGH or self.contended < CONTENDED or not self.held_up:
            return None
        return (
            f"Python's lock is contended: “{self.held_up}” loses {self.lost / 1e6:.1f} ms a step to it"
            f" (taken at {self.taken:.0%} of {self.probes:,} probes, had after {self.mean / 1e6:.1f} ms on average)."
            f" Threads cannot add speed here: {_INSTEAD.get(self.loader, _ANYHOW)}."
        )


def lock_enabled() -> bool:
    """Whether this interpreter has one lock for all threads."""
    asked = getattr(sys, "_is_gil_enabled", None)
    return True if asked is None else bool(asked())


def lock_delay(delays: Sequence[int], *, enabled: bool, switch: float, cpu: int = 0) -> LockDelay:
    """What a series of delays says.

    Args:
        delays: ns, one per probe.
        enabled: whether there is a lock.
        switch: ns, the switch interval.
        cpu: ns that probing took.
    """
    import numpy as np

    late = np.asarray(delays if enabled else (), dtype=np.float64)
    if not len(late):
        return LockDelay(
            enabled=enabled, probes=0, taken=0.0, mean=0.0, p50=0.0, p95=0.0, worst=0.0, switch=switch, contended=0.0,
            cpu=cpu,
        )  # fmt: skip
    p50, p95 = np.percentile(late, [50, 95]).tolist()
    return LockDelay(
        enabled=True, probes=len(late), taken=float((late > TAKEN_NS).mean()), mean=float(late.mean()), p50=p50,
        p95=p95, worst=float(late.max()), switch=switch, contended=float((late >= switch / 2).mean()), cpu=cpu,
    )  # fmt: skip


@final
class LockProbe:
    """Probes from `start` to `stop`, in a thread of its own."""

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._probes: list[tuple[int, int]] = []
        self._every = 1
        self._cpu = 0
        self._done = threading.Event()
        self._enabled = lock_enabled()
        self._thread = threading.Thread(target=self._probe, name="datapipe-lock-probe", daemon=True)

    def start(self) -> None:
        """Begin probing, where there is a lock."""
        if self._enabled:
            self._thread.start()

    def stop(self) -> None:
        """End probing."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def thread(self) -> threading.Thread:
        """The thread that probes."""
        return self._thread

    def found(self) -> LockDelay:
        """What was measured until now."""
        switch = sys.getswitchinterval() * 1e9
        delays = [late for _, late in self.asked()]
        return lock_delay(delays, enabled=self._enabled, switch=switch, cpu=self._cpu)

    def asked(self) -> tuple[tuple[int, int], ...]:
        """Each probe: when it asked for the lock (ns, the spans' clock), and how late it got it (ns)."""
        return tuple(self._probes)

    def _probe(self) -> None:
        queue = _open_schedstat()
        count = 0
        try:
            while not self._done.wait(min(self._interval, _EARLY_INTERVAL) if count < _EARLY else self._interval):
                count += 1
                if count % self._every == 0:
                    self._probes.append(_one_probe(queue, _nap(count)))
                    self._cpu = time.thread_time_ns()
                if len(self._probes) > _MOST:  # a run of many hours: half of the probes stand for all
                    del self._probes[::2]
                    self._every *= 2
        finally:
            if queue >= 0:
                os.close(queue)


def _nap(count: int) -> int:
    """How long the probe of this number sleeps, ns."""
    least, most = _NAPS
    return least + int((most - least) * (count * _GOLDEN % 1.0))


def _one_probe(queue: int, nap: int) -> tuple[int, int]:
    """When the lock was asked for, and ns until it was there, without the time this thread was ready and had no CPU."""
    before = _queued(queue)
    asked = time.perf_counter_ns() + nap
    time.sleep(nap / 1e9)
    late = time.perf_counter_ns() - asked
    return asked, max(0, late - (_queued(queue) - before))


def _open_schedstat() -> int:
    try:
        return os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
    except OSError:
        return -1


def _queued(file: int) -> int:
    """Ns that this thread has been ready without a CPU, since it began; 0 where the kernel does not say."""
    if file < 0:
        return 0
    try:
        return int(os.pread(file, 100, 0).split()[1])
    except (OSError, ValueError, IndexError):
        return 0
