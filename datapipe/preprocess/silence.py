"""Workers of a cluster on this machine that give no sign of life: found by the driver, and ended.

What enters: looks at the cluster, now and then. What leaves: nothing, or the end of a worker's process, which its nanny
replaces; the task that it held is counted as one that lost its worker. Invariant: a worker that a signal stopped, or
that hangs where its own watchdog (`limits`) cannot run, holds a run up for a bounded time; one that works is never
ended by this, because its own watchdog ends what takes too long in half of it.

A sign of life is the heartbeat that a worker's event loop sends every half second or so. Native code that holds the
interpreter's lock silences it too, for as long as `limits` allows at most.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from datapipe.preprocess.limits import Limits

TIMES: Final = 2.0
"""How many times what a task may take between two batches (`Limits.seconds` of all that it reads) a worker may be
silent."""
LEAST: Final = 60.0
"""Seconds: so long a machine that swaps may keep a worker that is well from saying so."""
AT_ONCE: Final = 15.0
"""Seconds of silence that one look may add: a driver that was stopped itself has heard nobody meanwhile."""


@final
class Silence:
    """Counts how long each worker of a local cluster has been silent."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._heard: dict[str, tuple[float, float]] = {}  # address → (its last heartbeat, seconds of silence since)
        self._looked = time.monotonic()

    def end_silent(self, limits: Limits, size: int) -> None:
        """End the workers that have been silent too long.

        Args:
            limits: of a worker; without a limit of time none is ended. size: bytes that the largest task reads.
        """
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, AT_ONCE), now
        allowed = max(LEAST, TIMES * limits.seconds(size))
        heard: dict[str, tuple[float, float]] = {}
        for address, worker in list(self._cluster.scheduler.workers.items()):
            last, silent = self._heard.get(address, (worker.last_seen, 0.0))
            silent = silent + passed if last == worker.last_seen else 0.0
            heard[address] = (worker.last_seen, silent)
            if limits.batch_seconds and silent > allowed:
                self._end(address)
        self._heard = heard

    def _end(self, address: str) -> None:
        for nanny in list(self._cluster.workers.values()):
            if nanny.worker_address == address and nanny.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(nanny.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
