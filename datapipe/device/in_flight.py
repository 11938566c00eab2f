"""Host buffers that a device may still read.

What enters: the host tensors of a batch, and the mark set after their copies. What leaves: the tensors, let go of once
the mark was reached. Invariant: as long as a copy may be under way its buffer is held here, whoever else drops it: an
iterator that is abandoned midway, a loader that is deleted. So memory is used again only when the device has read it
*and* nobody holds the batch: the first is said here, the second by `pool`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from datapipe.device.engine import CopyEngine


@final
class InFlight:
    """Of one engine, for as long as its buffers are used: it outlives the iterators that send."""

    def __init__(self, engine: CopyEngine) -> None:
        self._engine = engine
        self._held: deque[tuple[Any, list[Any]]] = deque()

    @property
    def batches(self) -> int:
        """Those held."""
        return len(self._held)

    def hold(self, mark: Any, tensors: list[Any]) -> None:
        """Hold these until the mark is reached."""
        self._held.append((mark, tensors))

    def reap(self) -> None:
        """Let go of what the device has read. Sends are in order, so the first that is not reached ends the search."""
        while self._held and self._engine.passed(self._held[0][0]):
            self._held.popleft()

    def finish(self) -> None:
        """Wait, on the host, for all of them."""
        self._engine.finish()
        self._held.clear()

    def __del__(self) -> None:
        # The last one to know of these buffers: their memory must not be freed under a copy. At interpreter exit, or in
        # a forked child, the device may be gone already, and the copies with it.
        if self._held:
            try:  # noqa: SIM105  (at exit the interpreter has set contextlib to None)
                self._engine.finish()
            except Exception:  # noqa: S110  (nobody is there to be told)
                pass
