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
