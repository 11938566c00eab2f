"""What a `torch.utils.data.DataLoader` does to make a batch: the dataset's own code, then collate.

What enters: torch's fetchers, in the script's process or in a worker's. What leaves: a "dataset" and a "collate" span
per batch, on the ring that the caller set for it.
Invariant: a fetch returns and raises what it does alone; only a fetch whose `Task` was set is recorded, and of fetches
inside one another the outermost.
"""

from __future__ import annotations

import functools
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, final

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

DATASET: Final = "dataset"
"""The stage of `dataset[index]` (or `next(dataset)`), all of a batch's rows together: reading, decoding, augmenting."""
COLLATE: Final = "collate"


class Writes(Protocol):
    """The part of a ring that records."""

    def write(
        self, stage: int, item: int, get: int, start: int, end: int, put: int,
        nbytes: int = 0, cpu: int = 0, cause: int = -1, flags: int = 0,
    ) -> None:  # fmt: skip
        """Store one span."""


@final
@dataclass(frozen=True, kw_only=True)
class Task:
    """One batch to be fetched: its number, when its maker was free for it (ns), and where its spans go.

    `cause`: the batch that had to be there first, -1: none.
    """

    ring: Writes
    dataset: int
    collate: int
    item: int
    asked: int
    cause: int = -1


@final
class _Here(threading.local):
    task: Task | None = None


_here = _Here()


def next_task(task: Task | None) -> None:
    """What this thread's next fetch works on; None: it is not recorded."""
    _here.task = task


def watch_fetch(undo: contextlib.ExitStack | None = None) -> None:
    """Patch torch's fetchers of this process, until `undo` unwinds (in a worker: for good); once at a time."""
    from torch.utils.data._utils.fetch import _IterableDatasetFetcher, _MapDatasetFetcher

    for fetcher in (_IterableDatasetFetcher, _MapDatasetFetcher):
        original = fetcher.fetch
        if hasattr(original, "__wrapped__"):
            continue  # a forked worker has its parent's
        fetcher.fetch = _watched(original)  # type: ignore[method-assign]
        if undo is not None:
            undo.callback(setattr, fetcher, "fetch", original)


def _watched(original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    @functools.wraps(original)
    def fetch(fetcher: Any, index: Any) -> Any:
        task, _here.task = _here.task, None
        if task is None:
            return original(fetcher, index)
        collate = fetcher.collate_fn
        cpu, start = time.thread_time_ns(), time.perf_counter_ns()

        def timed(data: Any) -> Any:
            got, had = time.perf_counter_ns(), time.thread_time_ns()
            task.ring.write(task.dataset, task.item, task.asked, start, got, got, cpu=had - cpu, cause=task.cause)
            batch = collate(data)
            end = time.perf_counter_ns()
            task.ring.write(task.collate, task.item, got, got, end, end, cpu=time.thread_time_ns() - had)
            return batch

        fetcher.collate_fn = timed
        try:
            return original(fetcher, index)
        finally:
            fetcher.collate_fn = collate

    return fetch
