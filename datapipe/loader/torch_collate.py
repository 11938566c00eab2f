"""The only file of the loader that knows torch: numpy arrays become tensors over the same memory.

What enters: a batch of numpy arrays and Python lists. What leaves: tensors and the same lists. Invariant: nothing is
copied; a tensor keeps its array, and so the recycled buffer under it, alive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def to_tensors(batch: dict[str, Any]) -> dict[str, Any]:
    """Arrays → tensors of the same dtype and shape; everything else is passed on."""
    from_numpy = torch.from_numpy
    return {name: from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in batch.items()}


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """The torch dtype of the same name as a numpy dtype."""
    found: torch.dtype = getattr(torch, dtype.name)
    return found


def array_of(tensor: torch.Tensor) -> np.ndarray[Any, Any] | None:
    """The same memory as an array (bfloat16 as int16), to send it to another process; None: it cannot be had."""
    if tensor.device.type != "cpu" or tensor.layout is not torch.strided or tensor.requires_grad:
        return None
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.view(torch.int16)
    try:
        array: np.ndarray[Any, Any] = tensor.numpy()
    except (TypeError, RuntimeError):  # a dtype that numpy has not, or a lazy conjugate
        return None
    return array


def tensor_of(array: np.ndarray[Any, Any], dtype: str) -> torch.Tensor:
    """And back."""
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if dtype == "torch.bfloat16" else tensor
