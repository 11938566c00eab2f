"""Keeping spans and memory over a long run: a light thread empties full rings and samples the resident size.

What enters: a recorder whose rings hold a fixed number of spans. What leaves: all spans up to a bound, those of a long
run in packed stretches, what was lost, and (seconds, bytes) pairs.
Invariant: a span is kept once, counted in a stretch that is left out, or counted as lost.

A ring is copied when half of it is new: at 8,192 spans a thread that is 590 KB every 4,096 spans. The copy
happens under the interpreter's lock, so the thread that records never needs one.

What is older than the newest 130,000 spans or so is packed (`stretches`), 3 to 10 ms of CPU time for 10,000 spans. Of a
run with more than `MOST_SPANS` every second stretch is left out, then every second of the rest: what is kept lies all
over the run, and takes no more memory or time at its end, however long it was.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, final

from datapipe.profiling.stretches import (
    MARGIN,
    STRETCH,
    LongRun,
    Loop,
    Stretch,
    clean_cut,
    joined,
    loop_of,
    on_the_loop,
    pack,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.events import AnyRing, Recorder

    Spans = npt.NDArray[np.void]

MOST_SPANS: Final = 9 << 20
"""Spans kept over a run: a million steps of eight or nine; packed, some 80 MiB at 8 bytes a span."""
_LOOSE: Final = 2 << 20
"""Of a loop that never comes to a clean moment so many are kept, 72 bytes each (144 MiB); then the oldest are lost."""
_MOST_SAMPLES: Final = 2_000


@final
class SpanArchive:
    """The spans of one recorder, kept; start it before the run and stop it after.

    Args:
        recorder: whose spans.
        capacity: spans each of its rings holds.
        interval: seconds between two looks.
        most: spans kept in all.
        stretch: spans packed at a time.
    """

    def __init__(
        self, recorder: Recorder, *, capacity: int, interval: float, most: int = MOST_SPANS, stretch: int = STRETCH
    ) -> None:
        self._recorder = recorder
        self._capacity = capacity
        self._interval = interval
        self._stride = 1  # looks between two samples of memory
        self._most = most
        self._stretch = stretch
        self._next = 2 * stretch  # spans at which packing is tried
        self._loop: Loop | None = None
        self._stretches: list[Stretch] = []
        self._packed = self._every = 1  # stretches so far, and one; of how many one is kept
        self._across: list[Spans] = []
        self._margin: Spans | None = None
        self._chunks: list[Spans] = []
        self._taken: dict[int, int] = {}
        self.cpu_ns = 0
        self._lost: dict[int, int] = {}
        self._memory: list[tuple[float, int]] = []
        self._lock, self._packing = threading.Lock(), threading.Lock()  # the second is taken first
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
        """Every span kept and not packed, sorted by start."""
        with self._packing, self._lock:
            self._take(least=1)
            return _sorted(self._chunks)

    def long(self) -> LongRun | None:
        """All of a run of which some is packed; None of one that is not so long."""
        import numpy as np

        from datapipe.events import FIELDS

        with self._packing, self._lock:
            self._take(least=1)
            if not self._stretches or self._loop is None:
                return None
            newest, none = _sorted(self._chunks), np.empty(0, dtype=np.dtype(list(FIELDS)))
            over = self._crossing(newest, self._loop)
            return LongRun(
                stretches=tuple(self._stretches),
                across=np.concatenate([none, *self._across, newest[over]]),
                newest=newest[~over],
                margin=none if self._margin is None else self._margin,
                loop=self._loop,
            )

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
            while self._pack():
                pass
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
            self._chunks.append(held[-fresh:].copy())  # not the whole ring with it

    def _pending(self) -> int:
        return sum(len(chunk) for chunk in self._chunks)

    def _crossing(self, spans: Spans, loop: Loop, until: int | None = None) -> npt.NDArray[np.bool_]:
        """bool[spans]: what the loop itself did over the end of the last stretch, or over `until`."""
        import numpy as np

        over = np.zeros(len(spans), dtype=bool)
        if self._stretches:
            over |= spans["start"] < self._stretches[-1].ended
        if until is not None:
            over |= spans["end"] > until
        return over & on_the_loop(spans, loop)

    def _pack(self) -> bool:
        """Pack the oldest spans, where there are enough; whether it did. Who records never waits for it."""
        with self._packing:
            with self._lock:
                if self._pending() < self._next:
                    return False
                for ring in self._recorder.rings():  # what slow threads did meanwhile
                    self._take_from(ring)
                chunks, self._chunks = self._chunks, []
            spans = _sorted(chunks)
            chunks.clear()
            rest = self._packed_but(spans)
            packed = len(rest) < len(spans)
            with self._lock:
                self._chunks.insert(0, rest)
                self._next = 2 * self._stretch if packed else len(rest) + self._stretch // 2
            return packed

    def _packed_but(self, spans: Spans) -> Spans:
        """Pack what lies before a clean cut, a stretch or half of them; the rest."""
        import numpy as np

        number = self._recorder.stage
        self._loop = self._loop or loop_of(spans, step=number("step"), epoch=number("epoch"))
        if self._loop is None:
            return spans
        until = int(spans["start"][min(len(spans) // 2, self._stretch)])
        began = self._stretches[-1].ended if self._stretches else self._recorder.started_ns
        cut = clean_cut(spans, self._loop, until=until)
        if cut is None and len(spans) > 4 * self._stretch:
            cut = clean_cut(spans, self._loop, until=until, anything=True)
        if cut is None or cut <= began:
            return spans
        place = int(np.searchsorted(spans["start"], cut))
        own = spans[:place]
        over = self._crossing(own, self._loop, cut)
        self._across.append(own[over])
        self._add(own[~over], began, cut, self._loop)
        return spans[place:].copy()

    def _add(self, own: Spans, began: int, ended: int, loop: Loop) -> None:
        import numpy as np

        mine = on_the_loop(own, loop)
        step, epoch = mine & (own["stage"] == loop.step), mine & (own["stage"] == loop.epoch)
        margin = own[:0] if self._margin is None else self._margin
        number = max([int(own["item"][step].max(initial=-1)), *(each.number for each in self._stretches[-1:])])
        kept = (self._packed - 1) % self._every == 0
        self._stretches.append(Stretch(
            began=began, ended=ended, count=len(own), steps=int(np.count_nonzero(step)), number=number,
            epochs=int(np.count_nonzero(epoch)), margin=len(margin),
            data=pack(np.concatenate([margin, own])) if kept else None,
        ))  # fmt: skip
        self._packed += 1
        self._margin = own[own["thread"] != loop.thread][-MARGIN:]
        held = [i for i, each in enumerate(self._stretches) if each.data is not None]
        if sum(self._stretches[i].count for i in held) > self._most - 2 * self._stretch and len(held) > 2:
            for i in held[1::2]:
                self._stretches[i] = replace(self._stretches[i], data=None)
            self._every *= 2
        self._stretches = joined(self._stretches)

    def _forget(self) -> None:
        import numpy as np

        excess = self._pending() - min(self._most, _LOOSE)
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


def _sorted(chunks: Sequence[Spans]) -> Spans:
    import numpy as np

    from datapipe.events import FIELDS

    spans = np.concatenate([np.empty(0, dtype=np.dtype(list(FIELDS))), *chunks])
    return spans[np.argsort(spans["start"], kind="stable")]


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
