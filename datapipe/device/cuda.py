"""The CUDA copy engine: page-locked host memory, a copy stream, events.

What enters: CPU tensors. What leaves: CUDA tensors. Invariant: that of `CopyEngine`. Narrow integers cross the bus as
they are and are widened on the device: packed tokens are uint16 and wanted as int64, four times the bytes.
"""

from __future__ import annotations

import warnings
from typing import Any, final

import torch

from datapipe.device.engine import CopyEngine
from datapipe.device.pool import plain_memory


@final
class CudaEngine(CopyEngine):
    """Copies to one CUDA device.

    Args:
        device: such as "cuda" or "cuda:1". pin: page-lock host memory; falls back, with one warning, where that fails.
    """

    def __init__(self, device: torch.device, *, pin: bool = True) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch ships it untyped
        self._pin = pin

    def allocate(self, nbytes: int) -> memoryview:
        """Page-locked memory, or plain memory once that has failed."""
        if self._pin:
            try:
                return memoryview(torch.empty(nbytes, dtype=torch.uint8, pin_memory=True).numpy().data)
            except RuntimeError as error:
                self._pin = False
                warnings.warn(
                    f"host memory cannot be page-locked ({str(error).splitlines()[0]}): copies to the device will not "
                    "overlap with compute. Raise `ulimit -l`, or pass pin_memory=False to say so.",
                    stacklevel=2,
                )
        return plain_memory(nbytes)

    def is_ready(self, tensor: torch.Tensor) -> bool:
        """Whether it is page-locked; without page-locking, staging would gain nothing."""
        return not self._pin or tensor.is_pinned()

    def send(self, tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
        """Begin a copy on the copy stream."""
        with torch.cuda.stream(self._stream):
            mask = 0
            if dtype is not None and tensor.dtype in {torch.uint16, torch.uint32}:
                # CUDA kernels for these two are few; their bits as signed, masked after widening, are the same numbers.
                mask = 0xFFFF if tensor.dtype == torch.uint16 else 0xFFFFFFFF
                tensor = tensor.view(torch.int16 if tensor.dtype == torch.uint16 else torch.int32)
            sent = tensor.to(self._device, non_blocking=True)
            if dtype is not None and sent.dtype != dtype:
                sent = sent.to(dtype)
                if mask:
                    sent.bitwise_and_(mask)
        return sent

    def mark(self) -> Any:
        """An event at the end of the copy stream."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch ships it untyped
        event.record(self._stream)
        return event

    def passed(self, mark: Any) -> bool:
        """Whether the event has completed."""
        return bool(mark.query())

    def join(self, mark: Any, tensors: list[torch.Tensor]) -> None:
        """Make the current stream wait for the event."""
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(mark)
        for tensor in tensors:
            # Allocated on the copy stream: without this their memory could be reused while compute still reads it.
            tensor.record_stream(stream)

    def finish(self) -> None:
        """Wait for the copy stream."""
        self._stream.synchronize()
