"""The copy engine of a device with streams (CUDA, XPU): page-locked host memory, a copy stream, events.

What enters: CPU tensors. What leaves: tensors on the device. Invariant: that of `CopyEngine`. Narrow numbers cross the
bus as they are and are widened on the device: packed tokens are uint16 and wanted as int64, four times the bytes.

A tensor made on the copy stream is handed over with `record_stream`: without it the allocator would give its memory
to the next copy as soon as Python lets go of it, while a kernel that was only launched has still to read it.
"""

from __future__ import annotations

import warnings
from typing import Any, Final, final

import torch

from datapipe.device.engine import CopyEngine

_UNSIGNED: Final = {
    torch.uint16: (torch.int16, torch.int32, (1 << 16) - 1),
    torch.uint32: (torch.int32, torch.int64, (1 << 32) - 1),
}
"""Unsigned dtype → the signed one of its size, one that holds all its values, and the bits that are its own. Devices
have few kernels for these two ("limited support" in torch 2.13); as signed, widened and masked they are the same."""


@final
class StreamEngine(CopyEngine):
    """Copies to one device.

    Args:
        device: such as "cuda", "cuda:1" or "xpu".
        pin: page-lock host memory; falls back, with one warning, where that fails.
        streams: what has Stream, Event, stream and current_stream of this kind of device; None: torch's module of it.

    Attributes:
        stream: that copies run on.
    """

    def __init__(self, device: torch.device, *, pin: bool = True, streams: Any = None) -> None:
        self._device = device
        self._streams = torch.get_device_module(device) if streams is None else streams
        self.stream = self._streams.Stream(device)
        self._pin = pin

    def allocate(self, nbytes: int) -> memoryview | None:
        """Page-locked memory, or None from the first time on that this fails."""
        if not self._pin:
            return None
        try:
            return memoryview(torch.empty(nbytes, dtype=torch.uint8, pin_memory=True).numpy().data)
        except (RuntimeError, MemoryError) as error:  # no driver, a locked-memory limit, no memory left
            self._pin = False
            first = (str(error).splitlines() or [type(error).__name__])[0]
            warnings.warn(
                f"host memory cannot be page-locked ({first}): copies to the device will not overlap with compute. "
                "Raise `ulimit -l` or the container's memory, lower memory_budget, or say pin_memory=False.",
                stacklevel=2,
            )
            return None

    def is_ready(self, tensor: torch.Tensor) -> bool:
        """Whether it is page-locked, or cannot be copied by its bytes; without page-locking, staging gains nothing.

        A tensor with gaps is copied on the host in any case: then rather into page-locked memory.
        """
        if not self._pin or tensor.layout is not torch.strided or type(tensor) is not torch.Tensor:
            return True
        return tensor.is_contiguous() and tensor.is_pinned()

    def send(self, tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
        """Begin a copy on the copy stream."""
        with self._streams.stream(self.stream):
            if dtype is None or dtype == tensor.dtype:
                return tensor.to(self._device, non_blocking=True)
            if tensor.dtype not in _UNSIGNED:
                return tensor.to(self._device, non_blocking=True).to(dtype)
            signed, whole, bits = _UNSIGNED[tensor.dtype]
            sent = tensor.view(signed).to(self._device, non_blocking=True)
            wide = sent.to(dtype if dtype in {whole, torch.int64} else whole).bitwise_and_(bits)
            return wide.to(dtype)

    def mark(self) -> Any:
        """An event at the end of the copy stream."""
        event = self._streams.Event()
        event.record(self.stream)
        return event

    def passed(self, mark: Any) -> bool:
        """Whether the event has completed."""
        return bool(mark.query())

    def join(self, mark: Any, tensors: list[torch.Tensor]) -> None:
        """Make the current stream wait for the event."""
        stream = self._streams.current_stream(self._device)
        stream.wait_event(mark)
        for tensor in tensors:
            tensor.record_stream(stream)

    def finish(self) -> None:
        """Wait for the copy stream."""
        self.stream.synchronize()
