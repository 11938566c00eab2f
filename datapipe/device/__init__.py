"""Buffers and transfers: recycled host memory, page-locked where there is a GPU, and copies on a stream of their own.

BufferPool         arrays whose memory is used again once nobody holds them
feed               batches on the host → batches on a device, the copy beside the compute
normalise_pixels   pictures as bytes → floats for a model, where they are
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from datapipe.device.pixels import normalise_pixels
    from datapipe.device.pool import BufferPool
    from datapipe.device.transfer import feed

_HOME: Final = {"BufferPool": "pool", "feed": "transfer", "normalise_pixels": "pixels"}

__all__ = ["BufferPool", "feed", "normalise_pixels"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'datapipe.device' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"datapipe.device.{_HOME[name]}"), name)
    globals()[name] = value
    return value
