"""Copies into page-locked memory, for tensors that were not gathered there: what a transform made, or another loader.

What enters: tensors on the host. What leaves: the same numbers in memory that the device reads by itself. Invariant:
what lies there already, or cannot be copied by its bytes, or finds no room, is passed on as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from datapipe import events
from datapipe.device.nested import replaced

if TYPE_CHECKING:
    from datapipe.device.engine import CopyEngine
    from datapipe.device.pool import BufferPool


def page_locked(tensor: torch.Tensor, engine: CopyEngine, pool: BufferPool, item: int) -> torch.Tensor:
    """The tensor, or a contiguous copy of it in a buffer of the pool; `item` is the batch's number in the spans."""
    if tensor.device.type != "cpu" or engine.is_ready(tensor):
        return tensor
    with events.timed("pin", item):
        overflows = pool.overflows
        memory = pool.empty((max(1, tensor.nbytes),), "uint8")
        if pool.overflows != overflows and tensor.is_contiguous():
            return tensor
        staged = torch.from_numpy(memory)[: tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        return staged.copy_(tensor.detach())  # without Python's lock


def staged(batch: Any, engine: CopyEngine, pool: BufferPool, item: int) -> Any:
    """A batch with all its tensors so: in a loader's own thread, while the consumer is at the batch before."""
    done: dict[int, torch.Tensor] = {}

    def stage(tensor: torch.Tensor, _: str | None) -> torch.Tensor:
        if id(tensor) not in done:
            done[id(tensor)] = page_locked(tensor, engine, pool, item)
        return done[id(tensor)]

    return replaced(batch, stage)
