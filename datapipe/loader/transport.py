"""How batches get to a device: the buffers they are gathered into, and the copies from there.

What enters: the device asked for, the loader's byte budget. What leaves: a pool of buffers, and for each epoch the
iterator that moves its batches. Invariant: there is one pool and one record of copies under way for all epochs of a
loader, so that breaking an epoch off never frees a buffer under a copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, final

from datapipe.device import BufferPool
from datapipe.errors import ConfigError
from datapipe.loader.arguments import one_of, whole_number
from datapipe.loader.source import Borrowed
from datapipe.storage.byte_count import byte_count

if TYPE_CHECKING:
    from datapipe.device.engine import CopyEngine
    from datapipe.device.feeder import Feeder
    from datapipe.loader.source import BatchSource


@final
class Transport:
    """Of one loader.

    Args:
        device: where batches go; None: they stay on the host. pin_memory: whether from page-locked memory.
        arrays: batches are no tensors.
        ahead, ahead_bytes: batches, and bytes on the device, that are on their way beyond the one asked for.
        budget: page-locked memory at most, in bytes; what goes beyond is plain memory, and copied from there.

    Attributes:
        pool: what batches are gathered into. On a device that copies by itself page-locked, so that no staging copy is
            needed. moves: whether batches go to a device.

    Raises:
        ConfigError: an argument is wrong, batches are no tensors, or there is no such device.
    """

    def __init__(
        self,
        device: Any,
        pin_memory: bool | Literal["auto"],
        *,
        arrays: bool,
        ahead: int,
        ahead_bytes: int | str | None,
        budget: int,
    ) -> None:
        one_of("pin_memory", pin_memory, (True, False, "auto"))
        self._ahead = whole_number("device_prefetch", ahead, 0)
        self._ahead_bytes = None if ahead_bytes is None else byte_count("device_budget", ahead_bytes)
        self._engine = _open_engine(device, pin_memory, arrays=arrays)
        self.moves = self._engine is not None
        self._pins = pin_memory is not False
        self.pool = BufferPool()
        if self._engine is not None:
            from datapipe.device.in_flight import InFlight
            from datapipe.device.transfer import pinned_pool

            self._in_flight = InFlight(self._engine)
            if self._pins:
                self.pool = pinned_pool(self._engine, most_bytes=budget)

    def stage(self, batch: Any, item: int) -> Any:
        """A batch that was not gathered into `pool`, copied there: by the thread that made it, not by the consumer."""
        if self._engine is None or not self._pins:
            return batch
        from datapipe.device.staging import staged

        return staged(batch, self._engine, self.pool, item)

    def feeder(self, source: BatchSource, *, widen: dict[str, Any], first_item: int) -> Feeder | None:
        """What moves a source's batches; None: they stay on the host.

        Args:
            widen: column → the torch dtype that the device gives it. first_item: the first batch's number in the spans.
        """
        if self._engine is None:
            return None
        from datapipe.device.feeder import Feeder

        return Feeder(
            Borrowed(source), self._engine, widen=widen, pool=self.pool, in_flight=self._in_flight,
            ahead=self._ahead, ahead_bytes=self._ahead_bytes, first_item=first_item,
        )  # fmt: skip


def _open_engine(device: Any, pin_memory: bool | Literal["auto"], *, arrays: bool) -> CopyEngine | None:
    if device is None:
        return None
    from datapipe.device.transfer import check_device, make_engine

    if arrays:
        raise ConfigError(f"device={device!r} with arrays or Arrow tables", fix='collate="torch"')
    target = check_device(device)
    return None if target.type == "cpu" else make_engine(target, pin_memory)
