"""What a source measures of itself while it runs, for the tuner: sums, added up as things happen.

What enters: times of the consumer's waits and of the threads' tasks, in ns. What leaves: one `Sample` per round.
Invariants: it costs two readings of the clock a batch; the consumer's numbers are written by the consumer alone, the
threads' inside the source's lock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final, final

ROUND_NS: Final = 500_000_000
ROUND_BATCHES: Final = 8
"""A round lasts at least this long and has at least so many batches: shorter ones are noise."""


@final
@dataclass(frozen=True, kw_only=True)
class Sample:
    """One round. Times in ns.

    Attributes:
        wall: how long it lasted; began: when. batches: delivered in it. interrupted: one gap between two batches took
            most of it (an evaluation, a checkpoint): it says nothing of the loader.
        own: the consumer's time outside the loader; own_cpu: CPU time of its thread, the loader's work there aside.
        made: its time making batches that are cheaper made than handed over. helped: doing other things that its
            batch needed. waited: for threads.
        loads, load_ns, load_cpu: blocks fetched and decoded, by whichever thread. other_ns, other_cpu: everything else
            that threads can do.
        least_ready: finished batches that lay ready, at the worst moment. full: threads found the queue full.
        unaffordable: threads found no memory left for the next read.
        least_ahead: bytes in memory that the next batches did not need, at the worst moment.
        batch_bytes: of one. cheap: batches are made by the consumer.
    """

    began: int
    wall: int
    batches: int
    interrupted: bool
    own: int
    own_cpu: int
    made: int
    helped: int
    waited: int
    loads: int
    load_ns: int
    load_cpu: int
    other_ns: int
    other_cpu: int
    least_ready: int
    full: bool
    unaffordable: bool
    least_ahead: int
    batch_bytes: int
    cheap: bool


@final
class Meter:
    """The sums of the round in progress.

    Attributes:
        left: when the consumer was last given a batch. due: when the round is over, if it has batches enough.
    """

    __slots__ = (
        "_began",
        "_cpu",
        "batches",
        "due",
        "full",
        "helped",
        "helped_cpu",
        "least_ahead",
        "least_ready",
        "left",
        "load_cpu",
        "load_ns",
        "loads",
        "longest",
        "made",
        "other_cpu",
        "other_ns",
        "own",
        "unaffordable",
        "waited",
    )  # fmt: skip

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin a round, now, on the consumer's thread."""
        self._began = self.left = time.perf_counter_ns()
        self._cpu = time.thread_time_ns()
        self.due = self._began + ROUND_NS
        self.batches = self.own = self.longest = self.made = self.helped = self.helped_cpu = self.waited = 0
        self.loads = self.load_ns = self.load_cpu = self.other_ns = self.other_cpu = 0
        self.least_ready = self.least_ahead = 1 << 62
        self.full = self.unaffordable = False

    def resume(self) -> None:
        """Leave out the time since the last batch: between two epochs."""
        pause = time.perf_counter_ns() - self.left
        self._began += pause
        self.left += pause
        self.due += pause

    def worked(self, nanoseconds: int, cpu: int, *, load: bool) -> None:
        """Count a task, of any thread."""
        if load:
            self.loads += 1
            self.load_ns += nanoseconds
            self.load_cpu += cpu
        else:
            self.other_ns += nanoseconds
            self.other_cpu += cpu

    def end(self, *, batch_bytes: int, cheap: bool) -> Sample:
        """What the round was, called by the consumer with a batch in hand."""
        wall = self.left - self._began
        own_cpu = time.thread_time_ns() - self._cpu - self.helped_cpu - self.made
        return Sample(
            began=self._began, wall=wall, batches=self.batches, interrupted=2 * self.longest > wall,
            own=self.own, own_cpu=min(max(0, own_cpu), self.own), made=self.made, helped=self.helped,
            waited=self.waited, loads=self.loads, load_ns=self.load_ns, load_cpu=self.load_cpu,
            other_ns=self.other_ns, other_cpu=self.other_cpu, least_ready=self.least_ready, full=self.full,
            unaffordable=self.unaffordable, least_ahead=self.least_ahead, batch_bytes=batch_bytes, cheap=cheap,
        )  # fmt: skip
