"""Ending the reads that somebody no longer wants, from another thread.

What enters: the futures of remote reads under way. What leaves: those of a closed scope cancelled, and those that come
later refused. Invariant: a thread belongs to the scope it has entered last; outside of any, nothing is cancelled.
"""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, final

from datapipe.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

_LOCAL = threading.local()


@final
class ReadScope:
    """Reads that end together. Entered by each thread that reads, closed by any."""

    def __init__(self) -> None:
        # Reentrant: the collector may close it on a thread that is inside.
        self._lock = threading.RLock()
        self._waiting: set[Future[Any]] = set()
        self._closed = False

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """What this thread reads meanwhile belongs to this scope."""
        before = getattr(_LOCAL, "scope", None)
        _LOCAL.scope = self
        try:
            yield
        finally:
            _LOCAL.scope = before

    def close(self) -> None:
        """Cancel what is under way: whoever waits for it gets a ClosedError."""
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
        for future in waiting:
            future.cancel()

    def wait(self, future: Future[Any]) -> Any:
        """The future's result.

        Raises:
            ClosedError: this scope was closed. Exception: the future's own.
        """
        with self._lock:
            self._waiting.add(future)
            closed = self._closed
        try:
            if closed:
                future.cancel()
            return future.result()
        except CancelledError:
            if not self._closed:
                raise
            raise ClosedError("the read was given up: the loader that wanted it was closed") from None
        finally:
            with self._lock:
                self._waiting.discard(future)


def result_of(future: Future[Any]) -> Any:
    """The result of a read, until it is there or the scope that this thread is in is closed."""
    scope: ReadScope | None = getattr(_LOCAL, "scope", None)
    return future.result() if scope is None else scope.wait(future)
