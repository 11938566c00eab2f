"""Feeding a device: the copy of the next batches begins while this one is computed on.

What enters: an iterator of batches on the host. What leaves: the same batches on the device, in order. Invariants: the
host never waits for a copy; a host buffer is held until the device has read it; no more is sent ahead than was asked
for, in batches and in bytes; an error or the end of the source reaches the consumer after every batch before it.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

import torch

from datapipe import events
from datapipe.device.in_flight import InFlight
from datapipe.device.nested import replaced
from datapipe.device.pool import BufferPool
from datapipe.device.staging import page_locked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from datapipe.device.engine import CopyEngine

AHEAD: Final = 1
"""Batches whose copy is begun early: one hides the copy behind the compute, more would only take device memory."""


class _Sent(NamedTuple):
    batch: Any
    tensors: list[Any]
    mark: Any
    nbytes: int  # on the device


@final
class Feeder:
    """An iterator that keeps batches on their way to the device.

    Args:
        source: where it has `ready` (a bool: `next` would not wait), a batch is sent ahead only if it is; else always.
        widen: name → dtype: tensors of a batch dict that are cast after the copy.
        pool: page-locked buffers for tensors that are not in such memory; one of its own by default.
        in_flight: holds the buffers; of whoever owns them, so that they are held although this iterator is dropped.
        ahead, ahead_bytes: batches, and bytes they take on the device, beyond the one that is asked for.
        first_item: number of the first batch in the spans.
    """

    def __init__(
        self,
        source: Iterator[Any],
        engine: CopyEngine,
        *,
        widen: Mapping[str, Any] | None = None,
        pool: BufferPool | None = None,
        in_flight: InFlight | None = None,
        ahead: int = AHEAD,
        ahead_bytes: int | None = None,
        first_item: int = 0,
    ) -> None:
        self._source = source
        self._engine = engine
        self._widen = dict(widen or {})
        self._pool = BufferPool(engine.allocate, recycle_all=True) if pool is None else pool
        self._in_flight = InFlight(engine) if in_flight is None else in_flight
        self._ahead = ahead
        self._ahead_bytes = ahead_bytes
        self._item = first_item
        self._sent: deque[_Sent] = deque()
        self._end: BaseException | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """The next batch: its copy has begun, and compute issued from now on waits for it on the device."""
        if not self._sent and self._end is None:
            self._send()
        while self._end is None and self._has_room():
            self._send()
        if not self._sent:
            assert self._end is not None
            raise self._end
        sent = self._sent.popleft()
        self._engine.join(sent.mark, sent.tensors)
        return sent.batch

    def _has_room(self) -> bool:
        """Whether one more may be sent beyond the batch that is about to be given."""
        if len(self._sent) > self._ahead:
            return False
        if self._ahead_bytes is not None:
            # What the next one takes is not known before it is there: as much as the last one.
            beyond = sum(sent.nbytes for sent in self._sent) - self._sent[0].nbytes + self._sent[-1].nbytes
            if beyond > self._ahead_bytes:
                return False
        return bool(getattr(self._source, "ready", True))

    def _send(self) -> None:
        try:
            batch = next(self._source)
        except Exception as end:
            self._end = end  # given after the batches that are on their way
            return
        recorder = events.active()
        began = 0 if recorder is None else time.perf_counter_ns()
        held: list[Any] = []
        sent: dict[tuple[int, Any], Any] = {}

        def send(tensor: torch.Tensor, name: str | None) -> torch.Tensor:
            if tensor.device.type != "cpu":
                return tensor
            dtype = None if name is None else self._widen.get(name)
            known = sent.get((id(tensor), dtype))
            if known is not None:
                return known  # type: ignore[no-any-return]  # a tensor
            host = page_locked(tensor, self._engine, self._pool, self._item)
            held.append(host)
            moved: torch.Tensor = self._engine.send(host, dtype)
            sent[id(tensor), dtype] = moved
            return moved

        try:
            moved = replaced(batch, send)
        except Exception as error:
            self._end = error
        # Whatever happened to the batch, copies of it may be under way.
        mark = self._engine.mark()
        self._in_flight.hold(mark, held)
        self._in_flight.reap()
        if self._end is not None:
            return
        tensors = list(sent.values())
        self._sent.append(_Sent(moved, tensors, mark, sum(map(_nbytes, tensors))))
        if recorder is not None:
            now = time.perf_counter_ns()
            size = sum(map(_nbytes, held))
            recorder.ring().write(recorder.stage("h2d"), self._item, began, began, now, now, size, cause=self._item)
        self._item += 1

    def close(self) -> None:
        """Wait for the copies under way, so that their host buffers may be reused; close the source if it can be."""
        self._in_flight.finish()
        self._sent.clear()
        self._end = StopIteration()  # an error's traceback would hold a batch, and this iterator
        close = getattr(self._source, "close", None)
        if close is not None:
            close()


def _nbytes(tensor: torch.Tensor) -> int:
    return tensor.nbytes if tensor.layout is torch.strided else 0
