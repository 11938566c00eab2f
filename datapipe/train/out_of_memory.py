"""A device that is full: knowing it, and getting back what a failed attempt holds.

What enters: an exception. What leaves: whether memory was what lacked; and, after `give_back`, a device that holds no
more than the attempt found. Invariant: nothing else is taken for it: an error that would come again does come again.
"""

from __future__ import annotations

import gc
from typing import Final

import torch

_SAID: Final = (
    "DefaultCPUAllocator: can't allocate memory",  # c10/core/impl/alloc_cpu.cpp
    "CUBLAS_STATUS_ALLOC_FAILED",  # cuBLAS and cuDNN allocate workspaces beside torch's allocator
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",  # raised by the driver, as for a new context or a captured graph
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory could not be had.

    torch.OutOfMemoryError is what the allocators of accelerators raise; some libraries and the CPU say it in words.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)


def give_back(device: torch.device) -> None:
    """Free what only garbage holds, and return the allocator's cached blocks to the device.

    To be called outside the `except` block: the exception holds the frames that hold the tensors. A cache of blocks of
    the size that failed is of no use to smaller ones (torch.cuda.memory_summary: "inactive split"), hence the return.
    """
    gc.collect()
    if device.type in {"cuda", "xpu", "mps"}:
        getattr(torch, device.type).empty_cache()
