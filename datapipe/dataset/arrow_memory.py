"""Memory that Arrow's allocator keeps for a thread, given back to the system from time to time.

What enters: how much a thread decoded. What leaves: nothing. Invariant: a thread that goes on decoding asks its
allocator to let go of what it holds in vain once per `STEP` bytes.

mimalloc, which Arrow uses where it was built in, gives memory back on the thread that allocated it. A loader's tables
are decoded on some threads and let go of on others; where there are more threads than cores the freed pages of each
pile up (100,000 x 2048 int32 under a budget of 256 MiB: up to 824 MiB beside 457 to 527, on two cores with a load
of 8). One call takes microseconds where there is nothing to give back.
"""

from __future__ import annotations

import threading
from typing import Final

import pyarrow as pa

STEP: Final = 64 << 20
"""Bytes that a thread decodes between two calls: eight row groups of the size that datapipe writes."""


class _Decoded(threading.local):
    nbytes = 0


_DECODED: Final = _Decoded()


def decoded(nbytes: int) -> None:
    """This thread has decoded so many bytes more."""
    _DECODED.nbytes += nbytes
    if _DECODED.nbytes < STEP:
        return
    _DECODED.nbytes = 0
    pool = pa.default_memory_pool()
    if pool.backend_name == "mimalloc":  # the others give back by themselves, and looking takes them milliseconds
        pool.release_unused()
