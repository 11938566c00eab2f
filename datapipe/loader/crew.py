"""The threads of a source: as many as are wanted, more or fewer at any time, all gone when it ends.

What enters: what each of them does until it has to leave. What leaves: nothing. Invariants: they are daemons, so that
one inside a read that never returns keeps no process alive; at interpreter exit they are told to end and waited for,
since a thread that comes back from Arrow into an interpreter that is gone takes the process down with it.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Final, Protocol, final

if TYPE_CHECKING:
    from collections.abc import Callable

JOIN_SECONDS: Final = 0.9
"""How long an end waits for threads: what is left of a second is for what comes before and after."""
EXIT_SECONDS: Final = 5.0
"""How long the interpreter's exit waits: on a machine with more to do than cores a block takes longer than it would."""


@final
class Crew:
    """Threads that run `work(place)`, which returns when `place` is not wanted any more. Its owner locks.

    Args:
        wanted: how many.

    Attributes:
        wanted: how many there shall be; fewer than asked for where the machine gives no more.
    """

    def __init__(self, work: Callable[[int], None], wanted: int) -> None:
        self._work = work
        self.wanted = 0
        self._threads: dict[int, threading.Thread] = {}
        self.resize(wanted)

    def resize(self, wanted: int) -> None:
        """Start those that are missing; those beyond see it themselves, once they are woken. Called inside the lock."""
        self.wanted = wanted
        for place in range(wanted):
            if place not in self._threads:
                thread = threading.Thread(
                    target=self._work, args=(place,), name=f"datapipe-loader-{place}", daemon=True
                )
                self._threads[place] = thread
                _THREADS.add(thread)
                try:
                    thread.start()
                except RuntimeError:  # the machine gives no more threads: those there are will do, even if none
                    del self._threads[place]
                    self.wanted = place
                    return

    def left(self, place: int) -> None:
        """The thread at this place returns now. Called inside the lock, so that one wanted again is started anew."""
        self._threads.pop(place, None)

    def join(self, until: float) -> int:
        """Wait for all until that moment (monotonic seconds): how many are still inside some call."""
        threads = [thread for thread in list(self._threads.values()) if thread is not threading.current_thread()]
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        return sum(thread.is_alive() for thread in threads)


class _Ends(Protocol):
    def forked(self) -> None:
        """This is a child of the process that has the threads, and a thread may have held a lock: end without both."""

    def abandon(self) -> bool:
        """Tell the threads to end."""

    def join(self, until: float) -> None:
        """Wait for them until that moment."""


_LIVE: weakref.WeakSet[_Ends] = weakref.WeakSet()
_THREADS: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
"""All that run, those included whose source was closed, and is gone, before they came back from a call."""


def ends_at_exit(source: _Ends) -> None:
    """Have this source told and waited for when the interpreter exits, if it still lives."""
    _LIVE.add(source)


def _end_all() -> None:
    until = time.monotonic() + EXIT_SECONDS
    sources = list(_LIVE)
    for source in sources:
        source.abandon()
    for source in sources:
        source.join(until)
    for thread in list(_THREADS):
        if thread.ident is not None:  # started
            thread.join(max(0.0, until - time.monotonic()))


def _forget_all() -> None:
    for source in list(_LIVE):
        source.forked()
    _LIVE.clear()
    _THREADS.clear()


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
