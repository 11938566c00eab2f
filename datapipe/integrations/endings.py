"""Ends of a script that Python does not announce: SIGTERM, and `os._exit`.

What enters: an open profile. What leaves: SIGTERM as an exception, and a profile that is written before `os._exit`.
Invariant: both hold in the process that the profile was opened in, and in no child that it forked; everything is put
back. Nothing can be done about SIGKILL: see `datapipe.profiling.unfinished`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, NoReturn, final

from datapipe.errors import in_words
from datapipe.profiling.unfinished import end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datapipe.profiling import Profile


class Terminated(BaseException):
    """SIGTERM came: raised in the main thread, so that the script's `finally` blocks and the profile see it."""


@final
class Ending:
    """What SIGTERM does: it raises, and once the profile is being written it is noted.

    Attributes:
        came: SIGTERM came while the profile was written.
    """

    def __init__(self) -> None:
        self.came = False
        self._writing = False

    @contextlib.contextmanager
    def written_whole(self) -> Iterator[None]:
        """From its end on SIGTERM interrupts nothing."""
        try:
            yield
        finally:
            self._writing = True

    def end(self) -> None:
        """SIGTERM came."""
        if not self._writing:
            raise Terminated
        self.came = True


@contextlib.contextmanager
def terminable() -> Iterator[Ending]:
    """While it lasts, the first SIGTERM raises `Terminated`; a second one kills, and so does one in a forked child.

    A script that has a handler of its own keeps it. Where this is not the main thread, nothing changes.
    """
    ending = Ending()

    def came(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ending.end()

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield ending
        return
    signal.signal(signal.SIGTERM, came)
    _hold_across_forks(came)
    try:
        yield ending
    finally:
        if signal.getsignal(signal.SIGTERM) is came:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _hold_across_forks(handler: Callable[[int, object], None]) -> None:
    """A child forked while `handler` is SIGTERM's has the default instead, from its first moment.

    SIGTERM is held back while the fork lasts: Python forgets what reaches a child before it is set up.
    """
    held: list[set[int]] = []

    def hold() -> None:
        if signal.getsignal(signal.SIGTERM) is handler:
            held.append(signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}))

    def let_go() -> None:
        if held:
            signal.pthread_sigmask(signal.SIG_SETMASK, held.pop())

    def let_go_in_child() -> None:
        if held:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        let_go()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=hold, after_in_parent=let_go, after_in_child=let_go_in_child)


@contextlib.contextmanager
def written_before_exit(prof: Profile) -> Iterator[None]:
    """While it lasts, `os._exit` in this process (scripts end so, past a hanging teardown) writes the profile first."""
    leave, owner = os._exit, os.getpid()

    def written(status: int) -> NoReturn:
        if os.getpid() == owner and os._exit is written:
            os._exit = leave
            _write(prof, status)
        leave(status)

    os._exit = written
    try:
        yield
    finally:
        if os._exit is written:
            os._exit = leave


def _write(prof: Profile, status: int) -> None:
    """Close the profile, and say where it is: nothing that follows the script runs any more."""
    said = f"the script called os._exit({status})"
    try:
        prof.note("exit code", status)
        prof.__exit__(SystemExit, SystemExit(status), None)
        if prof.folder is not None:
            end(prof.folder)
        if prof.unwritten is not None:
            said += f"; its profile could not be written: {prof.unwritten.got}"
        else:
            said += f"; the profile of what ran is in {prof.folder}"
    except BaseException as error:  # the script's exit code comes before its profile
        said += f"; its profile could not be written: {in_words(error)}"
    with contextlib.suppress(Exception):
        sys.stderr.write(f"datapipe: {said}\n")
        sys.stderr.flush()
