"""Recording, and nothing but recording: spans go into a preallocated ring, analysis is `profiling`'s work.

What enters: (stage, item, times) from any thread. What leaves: one numpy array of spans, sorted by start.
Invariant: the hot path takes no lock and allocates nothing that outlives the call. Each thread owns its ring;
a ring that is full overwrites its oldest spans and counts them, so that a reader can say what was lost.

A *span* is one piece of work on one item by one stage:

    get ≤ start ≤ end ≤ put
     └ began to wait for its input
           └ had it: service began
                   └ service ended
                          └ its output was accepted downstream

All times are `time.perf_counter_ns()` (ns; on Linux and macOS one monotonic clock for every process of the machine).
`cause` names the item whose arrival let this span start (-1: none): the edge a critical path walks back along.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from datapipe.locks import new_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import numpy.typing as npt

_RECORD: Final = struct.Struct("=8q2HI")  # item cause get start end put bytes cpu | stage thread flags
FIELDS: Final = (
    ("item", "<i8"),
    ("cause", "<i8"),
    ("get", "<i8"),
    ("start", "<i8"),
    ("end", "<i8"),
    ("put", "<i8"),
    ("bytes", "<i8"),
    ("cpu", "<i8"),
    ("stage", "<u2"),
    ("thread", "<u2"),
    ("flags", "<u4"),
)
"""The numpy dtype of a span: times and thread CPU time in ns, `bytes` as moved by the span."""

STAGES: Final = (
    # On the consumer's thread; together they fill a step.
    "step", "wait", "h2d", "forward", "backward", "optimizer", "communication", "checkpoint", "evaluate", "startup",
    # On the loader's threads (item: a row-group ordinal up to decode, a batch number from gather on).
    "list", "footer", "fetch", "decompress", "decode", "filter", "gather", "transform", "collate", "pin", "queue",
)  # fmt: skip
"""The stages that everybody names alike; a recorder takes further names as they come, `MOST_NAMES` in all."""
MOST_NAMES: Final = 100
FURTHER: Final = "further names"
"""What names beyond `MOST_NAMES` are recorded as: a name for every batch would fill a span's 16 bits, and a table of
steps by names any memory. (A report of 400 steps under 100 names has 1.2 MB.)"""

HIT: Final = 1
MISS: Final = 2
DEVICE: Final = 4
REMOTE: Final = 8
"""`flags`: the bytes came from a cache (HIT) or from their source (MISS), which is not on this machine (REMOTE); times
were read off the device (DEVICE)."""

CHEAP_NS: Final = 200_000
"""Batches that take less are made by the loop that takes them, not by the loader's threads: handing one over costs as
much (`loader.executor`). What-if replays it so."""


@final
class Ring:
    """One thread's spans: a fixed block of memory written round and round."""

    __slots__ = ("_buffer", "_capacity", "_pack", "count", "name", "thread")

    def __init__(self, capacity: int, thread: int, name: str) -> None:
        self._capacity = capacity
        self._buffer = bytearray(capacity * _RECORD.size)
        self._pack = _RECORD.pack_into
        self.count = 0
        self.thread = thread
        self.name = name

    def write(
        self, stage: int, item: int, get: int, start: int, end: int, put: int,
        nbytes: int = 0, cpu: int = 0, cause: int = -1, flags: int = 0,
    ) -> None:  # fmt: skip
        """Store one span (times in ns). Only the owning thread may call this."""
        n = self.count
        self._pack(
            self._buffer, n % self._capacity * 72,
            item, cause, get, start, end, put, nbytes, cpu, stage, self.thread, flags,
        )  # fmt: skip
        self.count = n + 1

    @property
    def lost(self) -> int:
        """How many spans were overwritten."""
        return max(0, self.count - self._capacity)

    def raw(self) -> bytes:
        """A copy of the whole ring, in the order of its memory."""
        return bytes(self._buffer)

    def array(self) -> npt.NDArray[np.void]:
        """A copy of the spans held, oldest first."""
        count = self.count
        return in_order(self.raw(), count)


class AnyRing(Protocol):
    """What a reader of spans asks of a ring: a thread's (`Ring`), or one that another process writes."""

    name: str
    thread: int

    @property
    def count(self) -> int:
        """Spans written so far, those overwritten since included."""

    @property
    def lost(self) -> int:
        """How many spans were overwritten."""

    def raw(self) -> bytes:
        """A copy of the whole ring, in the order of its memory."""

    def array(self) -> npt.NDArray[np.void]:
        """A copy of the spans held, oldest first."""


def in_order(raw: bytes, count: int) -> npt.NDArray[np.void]:
    """The spans of a ring's memory at its count, oldest first."""
    import numpy as np

    rows = np.frombuffer(raw, dtype=np.dtype(list(FIELDS)))
    return rows[:count].copy() if count <= len(rows) else np.roll(rows, -(count % len(rows)))


@final
class Span:
    """A block timed as one span, thread CPU time included; made by `Recorder.span` in the thread that enters it."""

    __slots__ = ("_cause", "_cpu", "_item", "_nbytes", "_ring", "_stage", "_start")

    def __init__(self, ring: Ring, stage: int, item: int = -1, nbytes: int = 0, cause: int = -1) -> None:
        self._ring = ring
        self._stage = stage
        self._item = item
        self._nbytes = nbytes
        self._cause = cause

    def __enter__(self) -> None:
        self._cpu = time.thread_time_ns()
        self._start = time.perf_counter_ns()

    def __exit__(self, *_: object) -> None:
        end, start = time.perf_counter_ns(), self._start
        cpu = time.thread_time_ns() - self._cpu
        self._ring.write(self._stage, self._item, start, start, end, end, self._nbytes, cpu, self._cause)


@final
class Recorder:
    """Collects spans from every thread of this process.

    Args:
        capacity: spans kept per thread (72 bytes each; 65,536 by default, 4.5 MiB a thread).
    """

    def __init__(self, capacity: int = 1 << 16) -> None:
        self._capacity = capacity
        self._local = threading.local()
        self._lock = new_lock()
        self._rings: list[tuple[AnyRing, weakref.ref[threading.Thread]]] = []
        self._stages: dict[str, int] = {name: i for i, name in enumerate(STAGES)}
        self.started_ns = time.perf_counter_ns()
        self.started_unix_ns = time.time_ns()
        self.notes: dict[str, Any] = {}
        """Facts about the run that a report shows: loader settings, device, model size."""
        self.loader: Any = None
        """What a loop that records its own steps iterates; a profile reads off it how it is set."""

    def stage(self, name: str) -> int:
        """The number of a stage; call it once, outside the hot path. `FURTHER`'s, where there are too many."""
        number = self._stages.get(name)
        if number is None:
            with self._lock:
                name = name if len(self._stages) < MOST_NAMES else FURTHER
                number = self._stages.setdefault(name, len(self._stages))
        return number

    @property
    def stages(self) -> tuple[str, ...]:
        """Stage names by number."""
        return tuple(sorted(self._stages, key=self._stages.__getitem__))

    def ring(self) -> Ring:
        """This thread's ring, made at the first call: hold it in a local variable in a loop.

        A thread takes over the ring of one that has ended, spans and all, of the same name or one that differs in
        numbers alone: who starts threads anew for every epoch, or batch, has as many rings as threads at once.
        """
        ring: Ring | None = getattr(self._local, "ring", None)
        if ring is None:
            ring = self._local.ring = self._claim(threading.current_thread())
        return ring

    def _claim(self, thread: threading.Thread) -> Ring:
        with self._lock:
            ended = [
                (place, ring)
                for place, (ring, owner) in enumerate(self._rings)
                if isinstance(ring, Ring) and not ((before := owner()) is not None and before.is_alive())
            ]
            like = _unnumbered(thread.name)
            for alike in (lambda name: name == thread.name, lambda name: _unnumbered(name) == like):
                for place, ring in ended:
                    if alike(ring.name):
                        self._rings[place] = (ring, weakref.ref(thread))
                        return ring
            ring = Ring(self._capacity, len(self._rings), thread.name)
            self._rings.append((ring, weakref.ref(thread)))
            return ring

    def adopt(self, make: Callable[[int], AnyRing]) -> None:
        """Take in a ring that another process writes; `make` gives it for the thread number it gets."""
        with self._lock:
            self._rings.append((make(len(self._rings)), weakref.ref(threading.main_thread())))

    def rings(self) -> list[AnyRing]:
        """Every ring, by thread number."""
        with self._lock:
            return [ring for ring, _ in self._rings]

    def span(self, name: str, item: int = -1, *, nbytes: int = 0, cause: int = -1) -> Span:
        """Time a block as one span, thread CPU time included; for work of ≥0.1 ms (hot loops call `Ring.write`)."""
        return Span(self.ring(), self.stage(name), item, nbytes, cause)

    def spans(self) -> npt.NDArray[np.void]:
        """Every span held, sorted by start: a structured array of dtype `FIELDS`."""
        import numpy as np

        rings = self.rings()
        if not rings:
            return np.empty(0, dtype=np.dtype(list(FIELDS)))
        spans = np.concatenate([ring.array() for ring in rings])
        return spans[np.argsort(spans["start"], kind="stable")]

    @property
    def threads(self) -> tuple[str, ...]:
        """Thread names by number."""
        return tuple(ring.name for ring in self.rings())

    @property
    def lost(self) -> int:
        """Spans overwritten because a ring was full."""
        return sum(ring.lost for ring in self.rings())


def _unnumbered(name: str) -> str:
    """A thread's name without its numbers: Python counts threads on, "Thread-7 (work)"."""
    return "".join(letter for letter in name if not letter.isdigit())


_active: Recorder | None = None


def active() -> Recorder | None:
    """The recorder of the profile in progress, or None: then a stage records nothing and reads no clock."""
    return _active


def timed(name: str, item: int = -1) -> contextlib.AbstractContextManager[None]:
    """Time a block as one span of the active recorder, for work of ≥0.1 ms; without one, nothing.

    For a stage that others call (a footer inside a fetch): its item is that of the span it lies in.
    """
    return contextlib.nullcontext() if _active is None else _active.span(name, item)


@contextlib.contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """Make `recorder` the active one, for all threads, until the block ends; nests."""
    global _active  # noqa: PLW0603  (one profile at a time in a process: that is what `active` means)
    before, _active = _active, recorder
    try:
        yield recorder
    finally:
        _active = before
