"""The copy engine of a device without streams of its own (MPS): each copy is done when `send` returns.

What enters: CPU tensors. What leaves: tensors on the device, whole. Invariant: the host waits for every copy, so a
buffer may be filled anew at once. On MPS copies that do not wait read a source that may be gone by then, and deliver
other numbers without a word (pytorch/pytorch issues 139550 and 189690, open in torch 2.13).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from datapipe.device.engine import CopyEngine

if TYPE_CHECKING:
    import torch


@final
class WaitingEngine(CopyEngine):
    """Copies to one device, one after the other."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def allocate(self, nbytes: int) -> memoryview | None:  # noqa: ARG002  (the contract's)
        """None: a copy that is waited for gains nothing from page-locked memory."""
        return None

    def is_ready(self, tensor: torch.Tensor) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def send(self, tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
        """Copy, and cast on the device where it knows the dtype; MPS has neither uint16 nor float64 of its own."""
        try:
            sent = tensor.to(self._device, copy=True)
        except (RuntimeError, TypeError):
            if dtype is None:
                raise
            return tensor.to(dtype).to(self._device, copy=True)
        return sent if dtype is None else sent.to(dtype)

    def mark(self) -> Any:
        """Nothing to wait for."""
        return None

    def passed(self, mark: Any) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def join(self, mark: Any, tensors: list[torch.Tensor]) -> None:
        """Nothing to wait for."""

    def finish(self) -> None:
        """Nothing is under way."""
