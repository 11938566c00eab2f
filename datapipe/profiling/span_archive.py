"""Keeping spans and memory over a long run: a light thread empties full rings and samples the resident size.

What enters: a recorder whose rings hold a fixed number of spans. What leaves: all spans up to a bound, what was
lost, and (seconds, bytes) pairs.
Invariant: a span is kept once or counted as lost, never both, never neither.

A ring is copied when half of it is new: at 8,192 spans a thread that is 590 KB every 4,096 spans. The copy
happens under the interpreter's lock, so the thread that records never needs one.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from datapipe.events import AnyRing, Recorder

    Spans = npt.NDArray[np.void]

MOST_SPANS: Final = 4 << 20
"""Spans kept over a run, 72 bytes each (288 MiB); beyond it the oldest go and are counted."""
_MOST_SAMPLES: Final = 2_000


@final
class SpanArchive:
    """The spans of one recorder, kept; start it before the run and stop it after.

    Args:
        recorder: whose spans.
        capacity: spans each of its rings holds.
        interval: seconds between two looks.
        most: spans kept in all.
    """

    def __init__(self, recorder: Recorder, *, capacity: int, interval: float, most: int = MOST_SPANS) -> None:
        self._recorder = recorder
        self._capacity = capacity
        self._interval = interval
        self._stride = 1  # looks between two samples of memory
        self._most = most
        self._chunks: list[Spans] = []
        self._taken: dict[int, int] = {}
        self.cpu_ns = 0
        self._lost: dict[int, int] = {}
        self._memory: list[tuple[float, int]] = []
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="datapipe-profile", daemon=True)

    def start(self) -> None:
        """Begin looking."""
        self._sample()
        self._thread.start()

    def stop(self) -> None:
        """End looking; the spans recorded until now are kept."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        self._sample()

    def spans(self) -> Spans:
        """Every span kept, sorted by start."""
        import numpy as np

        from datapipe.events import FIELDS

        with self._lock:
            self._take(least=1)
            chunks = list(self._chunks)
        spans = np.concatenate([np.empty(0, dtype=np.dtype(list(FIELDS))), *chunks])
        return spans[np.argsort(spans["start"], kind="stable")]

    def relieve(self, ring: AnyRing) -> None:
        """Empty this thread's own ring if half of it is new: a loop that calls this now and then loses nothing."""
        if ring.count - self._taken.get(ring.thread, 0) >= self._capacity // 2:
            with self._lock:
                self._take_from(ring)

    @property
    def lost(self) -> dict[int, int]:
        """Spans lost, by thread number."""
        with self._lock:
            return {thread: count for thread, count in self._lost.items() if count}

    @property
    def memory(self) -> tuple[tuple[float, int], ...]:
        """(seconds since the recorder began, resident bytes), at most 2,000 of them, evenly thinned."""
        return tuple(self._memory)

    def _look(self) -> None:
        looks = 0
        while not self._done.wait(self._interval):
            with self._lock:
                self._take(least=self._capacity // 2)
            looks += 1
            self.cpu_ns = time.thread_time_ns()
            if looks % self._stride == 0:
                self._sample()

    def _take(self, *, least: int) -> None:
        """Copy what is new from each ring that has at least `least` new spans."""
        for ring in self._recorder.rings():
            if ring.count - self._taken.get(ring.thread, 0) >= least:
                self._take_from(ring)
        self._forget()

    def _take_from(self, ring: AnyRing) -> None:
        copied = _copy(ring)
        if copied is None:
            return  # it is being written faster than it can be copied: the next look tries again
        count, held = copied
        taken = self._taken.get(ring.thread, 0)
        # A full ring's oldest span may be under a write that is not counted yet.
        usable = len(held) - 1 if len(held) == self._capacity else len(held)
        fresh = min(count - taken, usable)
        self._lost[ring.thread] = self._lost.get(ring.thread, 0) + (count - taken - fresh)
        self._taken[ring.thread] = count
        if fresh > 0:
            self._chunks.append(held[-fresh:])

    def _forget(self) -> None:
        import numpy as np

        excess = sum(len(chunk) for chunk in self._chunks) - self._most
        while excess > 0:
            chunk = self._chunks[0]
            gone = chunk[:excess]
            for thread, count in zip(*np.unique(gone["thread"], return_counts=True), strict=True):
                self._lost[int(thread)] = self._lost.get(int(thread), 0) + int(count)
            self._chunks[0] = chunk[excess:]
            if not len(self._chunks[0]):
                self._chunks.pop(0)
            excess -= len(gone)

    def _sample(self) -> None:
        size = resident_bytes()
        if size is None:
            return
        self._memory.append(((time.perf_counter_ns() - self._recorder.started_ns) / 1e9, size))
        if len(self._memory) > _MOST_SAMPLES:
            del self._memory[1::2]
            self._stride *= 2


def _copy(ring: AnyRing) -> tuple[int, Spans] | None:
    """A ring's count and its spans at that count, oldest first; None if its thread kept writing during every try."""
    from datapipe.events import in_order

    for _ in range(20):
        count = ring.count
        # Only the copy of the bytes, some 50 µs, must fall between two writes; `Ring.array` takes far longer, and NumPy
        # lets other threads run in it.
        raw = ring.raw()
        if ring.count == count:
            return count, in_order(raw, count)
    return None


def resident_bytes() -> int | None:
    """This process's resident memory in bytes, or None where the system does not say."""
    import os

    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  (a kernel file, read four times a second)
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
