"""Time as the device sees it: events on its streams, read after it has passed them.

What enters: marks between launches. What leaves: seconds between two of them. Invariant: setting a mark makes nobody
wait. On the CPU, where nothing runs beside, a mark is the time: so all that is measured can be tried without a GPU.
"""

from __future__ import annotations

import time
from typing import Any

import torch


class Clock:
    """Of one device."""

    def __init__(self, device: torch.device) -> None:
        self._streams = None if device.type == "cpu" else torch.get_device_module(device)

    def mark(self, stream: Any = None) -> Any:
        """Now, on a stream: the current one unless told."""
        if self._streams is None:
            return time.perf_counter()
        event = self._streams.Event(enable_timing=True)
        if stream is None:
            event.record()
        else:
            event.record(stream)
        return event

    def reach(self, mark: Any) -> None:
        """Wait, on the host, for a mark."""
        if self._streams is not None:
            mark.synchronize()

    def finish(self) -> None:
        """Wait for all that was launched."""
        if self._streams is not None:
            self._streams.synchronize()

    def seconds(self, begin: Any, end: Any) -> float:
        """Between two marks that were reached."""
        return float(end - begin) if self._streams is None else float(begin.elapsed_time(end)) / 1e3
