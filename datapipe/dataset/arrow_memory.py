"""The memory that row groups are decoded into: kept for the next ones, and given back when there are none.

What enters: a Parquet file; how much a thread decoded. What leaves: its reader. Invariant: memory that threads have
freed is used again by any of them, or goes back to the system within `DECAY_MS` or so.

A loader's tables are decoded on some threads and let go of on others. mimalloc, Arrow's own choice, gives memory back
on the thread that allocated it: where there are more threads than cores the freed pages of each pile up (100,000 x 2048
int32 under a budget of 256 MiB: up to 824 MiB beside 457 to 527, on two cores with a load of 8), and given back at once
they have to be cleared anew by the kernel, for a third of the time that decoding takes. jemalloc's arenas are
everybody's, and decay: of 11 to 14 µs a row of those tokens 2 to 3 were the kernel's with it, 3 to 7 without. The main
thread has its first arena, which was made before anybody could say that it shall decay, and gives back at once; and
what it decodes it lets go of itself: there Arrow's own choice is as good.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any, Final

import pyarrow as pa

DECAY_MS: Final = 1_000
"""Many row groups are decoded within it; Arrow's own 0 gives every page back at once."""
STEP: Final = 64 << 20
"""Bytes that a thread decodes between two calls, of mimalloc: eight row groups of the size that datapipe writes."""


class _Decoded(threading.local):
    nbytes = 0


_DECODED: Final = _Decoded()


@cache
def shared_pool() -> pa.MemoryPool:
    """What threads decode into: jemalloc's pool where Arrow was built with it, else Arrow's default.

    To be asked for first by the main thread: whoever is first has the arena that does not decay.
    """
    default = pa.default_memory_pool()
    if default.backend_name == "jemalloc" or "jemalloc" not in pa.supported_memory_backends():
        return default
    pa.jemalloc_set_decay_ms(DECAY_MS)
    pool = pa.jemalloc_memory_pool()
    pa.allocate_buffer(1, memory_pool=pool)
    return pool


def decoding_pool() -> pa.MemoryPool:
    """What this thread decodes into."""
    pool = shared_pool()
    return pa.default_memory_pool() if threading.current_thread() is threading.main_thread() else pool


def parquet_reader(source: Any, **options: Any) -> Any:
    """The `reader` of a `pyarrow.parquet.ParquetFile` with these options, that decodes into `decoding_pool`.

    That class has no parameter for the pool (26.0); what it wraps has, and is private: of a pyarrow that has it not,
    or not as it is now, the class itself is used, which decodes into Arrow's own pool.
    """
    try:
        from pyarrow._parquet import ParquetReader

        reader = ParquetReader(memory_pool=decoding_pool())
        reader.open(source, arrow_extensions_enabled=True, **options)  # that class's default, not its own
    except (ImportError, TypeError):
        import pyarrow.parquet as pq

        return pq.ParquetFile(source, **options).reader
    return reader


def decoded(nbytes: int) -> None:
    """This thread has decoded so many bytes more: of mimalloc it asks now and then to let go of what it holds in vain.

    One call takes microseconds where there is nothing to give back.
    """
    pool = decoding_pool()
    if pool.backend_name != "mimalloc":
        return
    _DECODED.nbytes += nbytes
    if _DECODED.nbytes < STEP:
        return
    _DECODED.nbytes = 0
    pool.release_unused()
