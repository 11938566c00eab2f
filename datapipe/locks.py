"""Locks that a forked child finds free: the thread that had one is not in the child, and would never let go of it.

What enters: nothing. What leaves: a lock. Invariant: in a child nobody has it. What it guards is there as it was when
the process was forked, perhaps half changed: it has to be of use so, or to be told from what is. On the lowest floor,
as stores, datasets and loaders need it.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Final

_LOCKS: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


def new_lock() -> threading.Lock:
    """A `threading.Lock` for what a process and its forked children both go on with."""
    lock = threading.Lock()
    _LOCKS.add(lock)
    return lock


def _free_all() -> None:
    for lock in list(_LOCKS):
        lock._at_fork_reinit()  # noqa: SLF001  (what the standard library does with its own, from Python 3.9 on)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_all)
