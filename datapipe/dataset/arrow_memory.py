"""The memory that row groups are decoded into: kept for the next ones, and given back when there are none.

What enters: a Parquet file; how much a thread decoded. What leaves: its reader. Invariant: memory that threads have
freed is used again by any of them, or goes back to the system within about a second; nothing is set that another user
of Arrow in this process would notice, and what the user set is followed.

A loader's tables are decoded on some threads and let go of on others. mimalloc, Arrow's own choice, gives memory back
on the thread that allocated it: where there are more threads than cores the freed pages of each pile up (100,000 x 2048
int32 under a budget of 256 MiB: up to 824 MiB beside 457 to 527, on two cores with a load of 8), and given back at once
they have to be cleared anew by the kernel, for a third of the time that decoding takes. jemalloc's arenas are
everybody's, and what they hold decays within a second: of 11 to 14 µs a row of those tokens 2 to 3 were the kernel's
with it, 3 to 7 without.

The main thread has jemalloc's first arena, which gives back at once; where it decodes alone, it lets go of the tables
itself, and Arrow's own choice is as good. Beside threads that decode it is not: what the main thread freed there stays
there until it decodes again (row groups of 1 to 16 MB, of which the next batch needed 332 MiB, 4 threads: 560 to 709
MiB, and 537 to 580 with all in jemalloc).

What decays is given back by a thread of jemalloc's own. A child of a fork has it not, nor has macOS (the same row
groups in a child: 834 to 885 MiB, of which 45 to 194 stayed; 580 to 584 with mimalloc, asked to give back).
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from functools import cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

STEP: Final = 64 << 20
"""Bytes that a thread decodes between two calls for memory back: eight row groups of the size that datapipe writes."""
_TOLD: Final = "ARROW_DEFAULT_MEMORY_POOL"


class _Thread(threading.local):
    nbytes = 0
    decodes = False


_THREAD: Final = _Thread()
_DECODERS: Final[weakref.WeakSet[threading.Thread]] = weakref.WeakSet()
"""The threads that decode, beside the main thread, until they end."""


@cache
def _jemalloc() -> pa.MemoryPool | None:
    """The pool of jemalloc, which lives as long as the process; None: it is not to be used here.

    Arrow was built without it, or told what to use instead; it gives nothing back by itself here; or it cannot start:
    on ARM pages may be larger (64 KiB) than those it was built for.
    """
    backends = pa.supported_memory_backends()
    told = os.environ.get(_TOLD) in backends or pa.default_memory_pool().backend_name != backends[0]
    if told or "jemalloc" not in backends:
        return None
    try:
        pool = pa.jemalloc_memory_pool()
        pa.allocate_buffer(1, memory_pool=pool)
    except (MemoryError, pa.ArrowException):
        return None
    return pool if _decays() else None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_jemalloc.cache_clear)


def _decays() -> bool:
    """Whether jemalloc's own thread runs in this process (Linux: it has a name there)."""
    with contextlib.suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):  # ended since
                if (task / "comm").read_bytes() == b"jemalloc_bg_thd\n":
                    return True
    return False


def shared_pool() -> pa.MemoryPool:
    """What threads decode into: jemalloc's pool where it is of use, else Arrow's default, whatever that is by now.

    To be asked for first by the main thread: whoever is first has the arena that does not decay.
    """
    pool = _jemalloc()
    return pa.default_memory_pool() if pool is None else pool


def decoding_pool() -> pa.MemoryPool:
    """What this thread decodes into."""
    pool = _jemalloc()
    if pool is None:
        return pa.default_memory_pool()
    if not _THREAD.decodes:
        thread = threading.current_thread()
        if thread is threading.main_thread():
            return pool if len(_DECODERS) else pa.default_memory_pool()
        _DECODERS.add(thread)
        _THREAD.decodes = True
    return pool


def parquet_reader(source: Any, **options: Any) -> Any:
    """The `reader` of a `pyarrow.parquet.ParquetFile` with these options, that decodes into `decoding_pool`.

    Its types are those of `metadata.schema.to_arrow_schema()`, as a dataset's are: what a file by another writer calls
    a UUID or JSON is so to that class alone, and not before pyarrow 21.

    That class has no parameter for the pool (26.0); what it wraps has, and is private: of a pyarrow that has it not,
    or not as it is now, the class itself is used, which decodes into Arrow's own pool.
    """
    try:
        from pyarrow._parquet import ParquetReader

        reader = ParquetReader(memory_pool=decoding_pool())
        reader.open(source, **options)
    except (ImportError, TypeError):
        import pyarrow.parquet as pq

        if int(pa.__version__.partition(".")[0]) >= 21:
            options["arrow_extensions_enabled"] = False
        return pq.ParquetFile(source, **options).reader
    return reader


def decoded(nbytes: int) -> None:
    """This thread has decoded so many bytes more: now and then Arrow's default is asked to let go of what it holds.

    Whatever was decoded into: another pyarrow may decode there, and so does all that makes tables of tables. mimalloc
    takes 2 µs for it where there is nothing, the system's malloc some ms; jemalloc does it by itself.
    """
    _THREAD.nbytes += nbytes
    if _THREAD.nbytes < STEP:
        return
    _THREAD.nbytes = 0
    default = pa.default_memory_pool()
    if default.backend_name != "jemalloc":
        default.release_unused()
