"""One epoch in progress: what `iter(loader)` returns.

What enters: a source of batches. What leaves: the batches, counted as they are delivered. Invariant: whichever way it
ends (exhausted, closed, an error, dropped and collected) its threads end and its blocks are let go.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.device.transfer import Feeder
    from datapipe.loader.source import BatchSource, Counters


@final
@dataclass(kw_only=True)
class Progress:
    """Where a loader stands: `position` batches of `epoch` were delivered.

    Attributes:
        resumed: the next iteration goes on from here; otherwise, once begun, an epoch is followed by the next.
    """

    epoch: int = 0
    position: int = 0
    resumed: bool = False


@final
class EpochIterator:
    """Batches of one epoch.

    Args:
        feeder: moves batches to a device, or None: they are delivered as the source makes them.
    """

    def __init__(self, source: BatchSource, progress: Progress, counters: Counters, feeder: Feeder | None) -> None:
        self._source = source
        self._progress = progress
        self._counters = counters
        self._feeder = feeder
        self._next = source.next if feeder is None else feeder.__next__
        self._over = False
        # The threads know the source and not this object: dropping it ends them.
        weakref.finalize(self, source.abandon)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """The next batch.

        Raises:
            StopIteration: the epoch is over. LoaderError, StorageError, …: what a stage met, with its own traceback.
            ClosedError: the loader was closed, or iterated over anew.
        """
        if self._over:
            raise StopIteration
        try:
            batch = self._next()
        except BaseException as error:
            self._over = isinstance(error, StopIteration)
            self.close()
            raise
        self._progress.position += 1
        self._counters.batches += 1
        return batch

    def close(self) -> None:
        """End it, and its threads."""
        if self._feeder is not None:
            self._feeder.close()
        self._source.close()
