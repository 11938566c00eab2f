"""One epoch in progress: what `iter(loader)` returns.

What enters: a source of batches. What leaves: the batches, counted as they are delivered. Invariant: whichever way it
ends (exhausted, closed, an error, dropped and collected) its threads end and its blocks are let go, unless the epoch
was delivered and the loader is there to go on with the next.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from datapipe.errors import LoaderError
from datapipe.loader.source import ENDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datapipe.device.feeder import Feeder
    from datapipe.loader.source import BatchSource, Counters
    from datapipe.loader.supply import Supply


@final
@dataclass(kw_only=True)
class Progress:
    """Where a loader stands: `position` batches of `epoch` were delivered.

    Attributes:
        resumed: a state was loaded and no batch delivered since: the next iteration goes on from here; otherwise, once
            begun, an epoch is followed by the next.
    """

    epoch: int = 0
    position: int = 0
    resumed: bool = False


@final
class EpochIterator:
    """Batches of one epoch.

    Args:
        feeder: moves batches to a device, or None: they are delivered as the source makes them.
        supply: keeps the source between two epochs.
        over: whether the epoch is over after so many batches, so that one that ends early is told from one that is.
    """

    def __init__(
        self,
        source: BatchSource,
        progress: Progress,
        counters: Counters,
        feeder: Feeder | None,
        *,
        supply: Supply,
        over: Callable[[int], bool],
    ) -> None:
        self._counters = counters
        self._supply = supply
        self._is_over = over
        self._over = False
        self._follow(source, progress, feeder)

    def _follow(self, source: BatchSource, progress: Progress, feeder: Feeder | None) -> None:
        self._source = source
        self._progress = progress
        self._feeder = feeder
        self._closed = False
        self._next = source.next if feeder is None else feeder.__next__
        # The threads know the source and not this object: dropping it ends them.
        self._dropped = weakref.finalize(self, self._supply.put_away, source)
        self._dropped.atexit = False  # see `crew`

    @property
    def ended(self) -> bool:
        """Whether it was closed, or is over."""
        return self._closed

    def go_on_with(self, source: BatchSource, progress: Progress, feeder: Feeder | None) -> None:
        """Go on elsewhere in the epoch, once closed."""
        self._follow(source, progress, feeder)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """The next batch.

        Raises:
            StopIteration: all batches of the epoch were delivered, and no sooner.
            LoaderError, StorageError, …: what a stage met, with its own traceback.
            ClosedError: the loader was closed, or iterated over anew.
        """
        if self._over:
            raise StopIteration
        try:
            batch = self._next()
        except StopIteration as error:
            delivered = self._progress.position
            self._over = self._is_over(delivered)
            if self._over:
                self.release()
                raise
            self.close()
            raise LoaderError(
                f"the epoch ended after {delivered} batches, and has more",
                expected="every batch, or an error that says why not",
                fix="some code that the loader calls raised StopIteration: see the cause",
            ) from error
        except BaseException:
            self.close()
            raise
        self._progress.position += 1
        self._progress.resumed = False
        self._counters.batches += 1
        return batch

    def release(self) -> None:
        """End it. Its source goes on to the next epoch where this one was delivered, else it is closed."""
        if self._closed:
            return
        source = self._source
        if not source.is_over:
            self.close()
            return
        self._closed = True
        self._dropped.detach()
        if self._feeder is not None:
            self._feeder.close()
        self._supply.put_away(source)
        self._source = ENDED
        self._next = ENDED.next

    def close(self) -> None:
        """End it, and its threads."""
        self._closed = True
        self._dropped.detach()
        if self._feeder is not None:
            self._feeder.close()
        self._source.close()
