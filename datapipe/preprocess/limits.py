"""What a task may use, how it says where it is, and what ends a worker that goes beyond.

What enters: limits, and the places that a task passes through. What leaves: nothing, or the end of the process.
Invariant: a worker is ended by this module's word, before the kernel chooses a victim of its own; a task that nobody
watches pays for one function call per batch.

A time limit counts from one batch to the next: a task of many batches may take as long as it needs, a step that never
returns is found out in the time of one. It works on native code that holds the interpreter's lock too: `faulthandler`
counts on a thread of its own. Memory is what the process holds of its own; files that it maps do not count.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from datapipe.steps import BoundStep
    from datapipe.steps.step import Keys

MEMORY: Final = 1 << 30
"""Bytes: the budget of a worker, unless another is given."""
BATCH_SECONDS: Final = 600.0
"""The slowest steps that are shipped take seconds for a batch of 8 MiB; a model of a user's may take minutes."""
BATCH_BYTES: Final = 8 << 20
"""What a batch holds unless a single row is larger: see `corpus.joined`."""
LOOK: Final = 0.05
"""Seconds from one look at the memory to the next: a process that fills pages as fast as it can gets 200 MB further."""
OVER_BUDGET: Final = 113
"""Exit code of a worker that ended itself for its memory."""


@final
@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one worker process may use.

    Attributes:
        memory: bytes of its own; 0: no limit.
        batch_seconds: for a batch of 8 MiB, and proportionally more for a larger one; 0: no limit.
    """

    memory: int = MEMORY
    batch_seconds: float = BATCH_SECONDS

    def __post_init__(self) -> None:
        if self.memory and self.memory < 256 << 20:
            raise ConfigError(
                f"worker_memory={self.memory:,} bytes",
                expected="0 (no limit), or 256 MiB and more: a worker's libraries",
            )
        if self.batch_seconds < 0:
            raise ConfigError(f"batch_seconds={self.batch_seconds}", expected="0 (no limit), or seconds for a batch")

    def seconds(self, size: int) -> float:
        """How long something may take that reads `size` bytes."""
        return self.batch_seconds * max(1.0, size / BATCH_BYTES)


class _Listening(threading.local):
    """Whom the task of this thread tells where it is."""

    place: Callable[[Whereabouts], None] | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Whereabouts:
    """Where a task is.

    Attributes:
        kind: "piece" (a piece of the corpus is being read), "rows" (a batch runs through the steps), "step" (one of
            them, told where a single row is tried), "end" (what was made of all rows is written).
        low, high: positions of the batch's rows, [low, high); the piece's number.
        bytes: that it holds. name: of the step; the id of the batch's first row.
    """

    kind: str
    low: int = 0
    high: int = 0
    bytes: int = 0
    name: str = ""


_LISTENING = _Listening()


def at(kind: str, low: int = 0, high: int = 0, *, size: int = 0, name: str = "") -> None:
    """Say where the task is: see `Whereabouts`."""
    listener = _LISTENING.place
    if listener is not None:
        listener(Whereabouts(kind=kind, low=low, high=high, bytes=size, name=name))


@contextlib.contextmanager
def told(listener: Callable[[Whereabouts], None]) -> Iterator[None]:
    """Tell `listener` where the tasks of this thread are, until the block ends."""
    before, _LISTENING.place = _LISTENING.place, listener
    try:
        yield
    finally:
        _LISTENING.place = before


def announced(step: BoundStep) -> BoundStep:
    """The step, saying its name before it runs."""

    def run(table: pa.Table, keys: Keys) -> pa.Table:
        at("step", size=table.nbytes, name=step.name)
        return step.step(table, keys)

    return dataclasses.replace(step, step=run)


@contextlib.contextmanager
def watched(limits: Limits, size: int) -> Iterator[None]:
    """End this process if what is done in the block takes too long or too much; `size`: bytes that it reads.

    For processes that run one task at a time, and may be ended.
    """
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(limits.memory, over), name="memory", daemon=True)
    with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as stack:  # noqa: PTH123
        if limits.batch_seconds:

            def arm(place: Whereabouts) -> None:
                # The end of a task is the work of all its batches: packing, sorting, writing.
                seconds = limits.seconds(size if place.kind == "end" else place.bytes)
                faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)

            arm(Whereabouts(kind="end"))
            stack.callback(faulthandler.cancel_dump_traceback_later)
            stack.enter_context(told(arm))
        if limits.memory:
            watcher.start()
            stack.callback(over.set)
        yield


def _watch(memory: int, over: threading.Event) -> None:
    own = os.getpid()
    while not over.wait(LOOK):
        if memory_of(own) > memory:
            os._exit(OVER_BUDGET)


def memory_of(pid: int) -> int:
    """Bytes of memory that a process holds for itself; 0 if there is no such process."""
    try:
        with open(f"/proc/{pid}/status") as file:  # noqa: PTH123
            return sum(int(line.split()[1]) << 10 for line in file if line.startswith(("RssAnon:", "RssShmem:")))
    except (FileNotFoundError, ProcessLookupError):
        if os.path.isdir("/proc/self"):  # noqa: PTH112
            return 0
    try:  # where there is no /proc
        import psutil  # type: ignore[import-untyped]  # it comes with Dask

        return int(psutil.Process(pid).memory_info().rss)
    except Exception:
        return 0
