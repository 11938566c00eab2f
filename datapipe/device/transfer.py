"""Feeding a device: batches on the host become batches on the device, the copy of the next beside the compute of this.

What enters: any iterator of batches (tensors, in dicts, lists and tuples). What leaves: the same batches on the
device, in order. Invariants: a host buffer is held until the device has read it, and recycled by whoever owns it after
that; an error or the end of the source reaches the consumer after every batch before it.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Literal, final

from datapipe import events
from datapipe.device.pool import BufferPool
from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from datapipe.device.engine import CopyEngine

AHEAD: Final = 1
"""Batches whose copy is begun early: one hides the copy behind the compute, more would only take device memory."""


def feed(
    batches: Iterable[Any],
    device: Any,
    *,
    pin_memory: bool | Literal["auto"] = "auto",
    widen: Mapping[str, Any] | None = None,
    first_item: int = 0,
) -> Iterator[Any]:
    """Iterate over batches with their tensors on `device`.

    Args:
        batches: any iterable; what is no tensor in it is passed on.
        device: "cpu" (batches are passed through), "cuda", "cuda:1", a torch.device.
        pin_memory: page-lock the host side of copies to CUDA; "auto": where the device is CUDA.
        widen: name → torch dtype: tensors of a batch dict that are cast after the copy.
        first_item: number of the first batch in the spans.

    Raises:
        ConfigError: there is no such device here.
    """
    target = check_device(device)
    if target.type == "cpu":
        return iter(batches)
    return Feeder(iter(batches), make_engine(target, pin_memory), widen=widen, first_item=first_item)


def check_device(device: Any) -> Any:
    """The torch.device meant, present on this machine.

    Raises:
        ConfigError: it is not one, not here, or of a kind that is not supported.
    """
    try:
        import torch
    except ImportError:
        raise ConfigError(
            f"device={device!r}, and torch is not installed", fix='pip install "datapipe-toolkit[train]"'
        ) from None
    try:
        target = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device={device!r}", expected='"cpu", "cuda" or "cuda:N"') from error
    if target.type not in {"cpu", "cuda"}:
        raise ConfigError(f"device={device!r}", expected='"cpu" or "cuda"', fix="move the batches in your own loop")
    if target.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device={device!r}, and torch sees no CUDA device",
            expected="a CUDA build of torch and a driver",
            fix='device="cpu", or leave it out',
        )
    if target.type == "cuda" and target.index is not None and target.index >= torch.cuda.device_count():
        raise ConfigError(f"device={device!r}", expected=f"one of {torch.cuda.device_count()} CUDA device(s)")
    return target


def make_engine(target: Any, pin_memory: bool | Literal["auto"] = "auto") -> CopyEngine:
    """The copy engine of a CUDA device."""
    from datapipe.device.cuda import CudaEngine

    return CudaEngine(target, pin=pin_memory is not False)


@final
class Feeder:
    """An iterator that keeps one batch on its way to the device.

    Args:
        pool: page-locked buffers for tensors that are not in such memory; one of its own by default.
    """

    def __init__(
        self,
        source: Iterator[Any],
        engine: CopyEngine,
        *,
        widen: Mapping[str, Any] | None = None,
        pool: BufferPool | None = None,
        first_item: int = 0,
    ) -> None:
        self._source = source
        self._engine = engine
        self._widen = dict(widen or {})
        self._pool = pool or BufferPool(engine.allocate, recycle_all=True)
        self._item = first_item
        self._sent: deque[tuple[Any, list[Any], Any]] = deque()  # batch, its tensors, the mark after their copies
        self._held: deque[tuple[Any, list[Any]]] = deque()  # a mark, and the host tensors that it frees
        self._end: BaseException | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """The next batch: its copy has begun, and compute issued from now on waits for it on the device."""
        while self._end is None and len(self._sent) <= AHEAD:
            self._send()
        if not self._sent:
            assert self._end is not None
            raise self._end
        batch, tensors, mark = self._sent.popleft()
        self._engine.join(mark, tensors)
        return batch

    def _send(self) -> None:
        try:
            batch = next(self._source)
        except Exception as end:
            self._end = end  # given after the batches that are on their way
            return
        recorder = events.active()
        began = 0 if recorder is None else time.perf_counter_ns()
        tensors: list[Any] = []
        held: list[Any] = []
        moved = self._walk(batch, None, lambda tensor, name: self._one(tensor, name, tensors, held))
        mark = self._engine.mark()
        self._sent.append((moved, tensors, mark))
        self._held.append((mark, held))
        # Sends are in order, and so are their marks: the first that is not reached ends the search.
        while self._held and self._engine.passed(self._held[0][0]):
            self._held.popleft()
        if recorder is not None:
            now = time.perf_counter_ns()
            size = sum(tensor.nbytes for tensor in held)
            recorder.ring().write(recorder.stage("h2d"), self._item, began, began, now, now, size, cause=self._item)
        self._item += 1

    def _one(self, tensor: Any, name: str | None, tensors: list[Any], held: list[Any]) -> Any:
        if tensor.device.type != "cpu":
            return tensor
        if not self._engine.is_ready(tensor):
            with events.timed("pin", self._item):
                tensor = self._stage(tensor)
        held.append(tensor)
        sent = self._engine.send(tensor, self._widen.get(name) if name is not None else None)
        tensors.append(sent)
        return sent

    def _stage(self, tensor: Any) -> Any:
        """A copy in page-locked memory."""
        import torch

        memory = self._pool.empty((max(1, tensor.nbytes),), "uint8")
        staged = torch.from_numpy(memory)[: tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        return staged.copy_(tensor)

    def _walk(self, value: Any, name: str | None, move: Callable[[Any, str | None], Any]) -> Any:
        if hasattr(value, "is_pinned"):
            return move(value, name)
        if isinstance(value, dict):
            return {key: self._walk(each, key, move) for key, each in value.items()}
        # A list of strings is a column of text: looked at once, not walked.
        if isinstance(value, (list, tuple)) and value and not isinstance(value[0], (str, bytes)):
            parts = [self._walk(each, name, move) for each in value]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        return value

    def close(self) -> None:
        """Wait for the copies under way, so that their host buffers may be reused; close the source if it can be."""
        self._engine.finish()
        self._held.clear()
        self._sent.clear()
        if self._end is None:
            self._end = StopIteration()
        close = getattr(self._source, "close", None)
        if close is not None:
            close()
