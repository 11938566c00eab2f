"""The contract between making batches and iterating over them, and the counters that both keep.

What enters: nothing. What leaves: one batch per call of `next`. Invariant: batches come in order; after StopIteration,
an error or `close` no thread and no block is left, and `next` raises.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Iterator


class BatchSource(abc.ABC):
    """Makes the batches of one rank's epoch."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self.next()

    @abc.abstractmethod
    def next(self) -> Any:
        """The next batch.

        Raises:
            StopIteration: the epoch is over. ClosedError: it was closed. Exception: what a stage raised.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """End it, from any thread and any state, within a second; more than once does no harm."""

    @abc.abstractmethod
    def abandon(self) -> bool:
        """Begin to end it without waiting: what the garbage collector calls. False if it had been ended before."""

    @property
    def ready(self) -> bool:
        """Whether `next` would not wait for another thread: it may be asked ahead of time at no cost."""
        return True

    @property
    def is_over(self) -> bool:
        """Whether its epoch was delivered and it can go on to the next."""
        return False


@final
class _Ended(BatchSource):
    """What an iterator holds that gave its source back."""

    def next(self) -> Any:
        raise ClosedError("this iterator was closed", fix="iterate over the loader again")

    def close(self) -> None:
        pass

    def abandon(self) -> bool:
        return False


ENDED: Final = _Ended()


@final
class Borrowed:
    """A source's batches for somebody who closes what it reads from: the source lives on."""

    def __init__(self, source: BatchSource) -> None:
        self._source = source
        self._next = source.next

    @property
    def ready(self) -> bool:
        """As of the source."""
        return self._source.ready

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._next()


@final
@dataclass(kw_only=True)
class Counters:
    """What a loader has done since it was made. Counting reads no clock.

    Attributes:
        batches: delivered. blocks: fetched and decoded. decoded_bytes: of those blocks.
        held_bytes: blocks and finished batches in memory now; peak_bytes: at most so far.
            Between two epochs: what was read ahead for the next.
        ready: finished batches that wait for the consumer. threads: of the loader, alive.
        waits: how often the consumer asked for a batch that was not ready (never, inline).
    """

    batches: int = 0
    blocks: int = 0
    decoded_bytes: int = 0
    held_bytes: int = 0
    peak_bytes: int = 0
    ready: int = 0
    threads: int = 0
    waits: int = 0

    def block_loaded(self, nbytes: int) -> None:
        """Count a block and the memory it now takes."""
        self.blocks += 1
        self.decoded_bytes += nbytes
        self.hold(nbytes)

    def hold(self, nbytes: int) -> None:
        """Count memory taken (or, negative, given back)."""
        self.held_bytes += nbytes
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)
