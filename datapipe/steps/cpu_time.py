"""CPU time of a step, that of processes which work for it included.

What enters: seconds that another process spent for this thread. What leaves: a clock. Invariant: the clock never goes
back; it is right where one task runs at a time, as in a worker.
"""

from __future__ import annotations

import threading
import time

_own = threading.local()


def spent() -> float:
    """CPU seconds of this process (all threads), and those that others reported to this thread."""
    return time.process_time() + getattr(_own, "elsewhere", 0.0)


def add(seconds: float) -> None:
    """Count what another process spent for this thread."""
    _own.elsewhere = getattr(_own, "elsewhere", 0.0) + seconds
