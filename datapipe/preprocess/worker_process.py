"""What each local worker process does first: Dask runs `dask_setup` in it before any task.

What enters: a fresh worker. What leaves: the same, deaf to Ctrl-C. Invariant: the driver alone decides how a run ends;
a terminal sends its interrupt to every process of the foreground, and workers would each print a traceback of their
own.
"""

from __future__ import annotations

import os
import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Ignore the keyboard's interrupt; and leave the terminal's group, as Polars listens for it on its own."""
    del worker
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
