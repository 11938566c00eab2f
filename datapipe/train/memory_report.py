"""Where the memory of a training step goes: estimated beforehand, and measured on the device.

What enters: what a run is made of, and one of its batches. What leaves: bytes by kind, side by side, and how many rows
would fit. Invariant: the estimate is made first and knows nothing of the measurement, which does one whole step (two
micro-batches and an update): the model and the optimizer given are not fit for anything afterwards.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch

from datapipe.train.memory_estimate import MemoryEstimate, memory_estimate, optimizer_bytes, saved_bytes
from datapipe.train.micro_batch import first_rows, rows_of
from datapipe.train.out_of_memory import give_back, is_out_of_memory
from datapipe.train.precision import autocast

if TYPE_CHECKING:
    from torch import nn

    from datapipe.train.precision import Precision


@final
@dataclass(frozen=True, kw_only=True)
class MemoryReport:
    """The memory of one step.

    Attributes:
        device: its name. capacity: bytes of it; on the CPU the machine's.
        estimate: before. batch_rows: of a whole batch. fits: rows at once that the estimate finds room for in 0.9 of
            the capacity: the allocator's blocks and the libraries' workspaces have to go somewhere.
        measured: bytes by the estimate's names, after; `total` is the device's peak, and None on the CPU, whose
            allocator keeps no account. Empty: not measured, or out of memory.
        out_of_memory: the step did not fit.
    """

    device: str
    capacity: int
    estimate: MemoryEstimate
    batch_rows: int
    fits: int
    measured: dict[str, int | None]
    out_of_memory: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "device": self.device, "capacity": self.capacity, "batch_rows": self.batch_rows, "fits": self.fits,
            "estimate": self.estimate.as_dict(), "measured": self.measured, "out_of_memory": self.out_of_memory,
        }  # fmt: skip

    def rows(self) -> list[tuple[str, int, int | None]]:
        """(kind, estimated, measured) in bytes; the last is the total."""
        told = self.estimate.as_dict()
        kinds = ("parameters", "buffers", "gradients", "optimizer", "activations", "workspace", "total")
        return [(kind, told[kind], self.measured.get(kind)) for kind in kinds]


def memory_report(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Any,
    *,
    device: torch.device,
    precision: Precision = "fp32",
    rows: int | None = None,
    measure: bool = True,
) -> MemoryReport:
    """Estimate a step, and do one to see.

    Args:
        model: with `loss_sum(batch)`, on the device, as are the batch and the optimizer's parameters.
        rows: at once; None: the batch's.
        measure: else the estimate alone, and nothing is changed.
    """
    told = memory_estimate(model, optimizer, batch, device=device, precision=precision, rows=rows)
    total = capacity(device)
    measured: dict[str, int | None] = {}
    full = False
    if measure:
        try:
            measured = _measured(model, optimizer, first_rows(batch, told.rows), device, precision)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            full = True
        if full:
            give_back(device)
    return MemoryReport(
        device=_name(device), capacity=total, estimate=told, batch_rows=rows_of(batch),
        fits=min(rows_of(batch), told.rows_within(total * 9 // 10)), measured=measured, out_of_memory=full,
    )  # fmt: skip


def capacity(device: torch.device) -> int:
    """Bytes of a device's memory; of the machine's for the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "xpu":
        return int(torch.xpu.get_device_properties(device).total_memory)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _measured(
    model: nn.Module, optimizer: torch.optim.Optimizer, piece: Any, device: torch.device, precision: Precision
) -> dict[str, int | None]:
    on_cuda = device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    activations = saved_bytes(model, piece, device, precision)[0]
    for update in (True, False):  # the optimizer's state is there in the second step, as in all that follow
        for _ in range(2):
            with autocast(device, precision):
                loss, _ = model.loss_sum(piece)  # type: ignore[operator]  # every Learner has it
            loss.backward()
        gradients = sum(weight.grad.nbytes for weight in model.parameters() if weight.grad is not None)
        if update:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return {
        "parameters": sum(weight.nbytes for weight in model.parameters()),
        "buffers": sum(buffer.nbytes for buffer in model.buffers()),
        "gradients": gradients,
        "optimizer": optimizer_bytes(optimizer),
        "activations": activations,
        "workspace": None,
        "total": torch.cuda.max_memory_allocated(device) if on_cuda else None,
    }


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
