"""Locks that the kernel frees when their holder dies, waited for no longer than allowed.

What enters: an open file. What leaves: whether this open file now has its lock. Invariant: nothing polls; a lock is
never held by somebody who gave up waiting for it.

A lock belongs to the open file, not to the process: threads of one process exclude each other like processes do.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def lock_now(fd: int) -> bool:
    """Take the lock of `fd` if nobody has it."""
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_within(fd: int, seconds: float) -> bool:
    """Take the lock of `fd`, waiting for it at most so long.

    The system's own wait knows no time limit: a thread waits in it, on a second descriptor of the same open file, and
    closes that one when it gets the lock too late.
    """
    if lock_now(fd):
        return True
    turn, done = threading.Lock(), threading.Event()
    got = given_up = False
    other = os.dup(fd)

    def wait() -> None:
        import fcntl

        nonlocal got
        try:
            fcntl.flock(other, fcntl.LOCK_EX)
            with turn:
                got = not given_up
        except OSError:
            pass  # the file system went away: not got
        finally:
            os.close(other)
            done.set()

    try:
        threading.Thread(target=wait, name="datapipe-cache-wait", daemon=True).start()
    except RuntimeError:  # no more threads, or the interpreter is ending
        os.close(other)
        return False
    done.wait(seconds)
    with turn:
        given_up = not got
        return got


def unlock(fd: int) -> None:
    """Free the lock and close `fd`; a child that was forked meanwhile has its copy of the descriptor, not the lock."""
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


@contextlib.contextmanager
def locked(fd: int, seconds: float) -> Iterator[None]:
    """Hold the lock of `fd`, which is closed at the end.

    Raises:
        TimeoutError: somebody else had it all the time.
    """
    held = False
    try:
        held = lock_within(fd, seconds)
        if not held:
            raise TimeoutError(f"its lock was held by another process for {seconds:g} s")
        yield
    finally:
        unlock(fd) if held else os.close(fd)
