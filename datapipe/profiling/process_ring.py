"""Another process's spans: a ring in a file that both map, written there and read here.

What enters: spans, from one process that works for the run (a loader's worker). What leaves: the same spans to the
recorder that adopted the ring, live, and after that process was killed too.
Invariant: one writer; a span is counted after it is written, so a reader sees whole spans up to the count (the oldest
of a full ring may be under the pen: `SpanArchive` leaves it out, as it does for threads).

Times need no translation: on Linux and macOS one monotonic clock serves every process of a machine.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_COUNT: Final = struct.Struct("=q")
_HEADER: Final = 64
"""Bytes before the first span: the count, alone on its cache line."""
_RECORD: Final = struct.Struct("=8q2HI")


@final
class ProcessRing:
    """One process's spans in a mapped file; it is used where a thread's `events.Ring` is.

    Args:
        path: the file, made by `make_ring_file`.
        thread: the number the recorder knows it by.
        name: of the process, for a report.

    Raises:
        OSError: there is no such file, or it cannot be mapped.
    """

    __slots__ = ("_capacity", "_map", "name", "path", "thread")

    def __init__(self, path: str | os.PathLike[str], *, thread: int, name: str) -> None:
        self.path = str(path)
        self.thread = thread
        self.name = name
        with Path(path).open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._capacity = (len(self._map) - _HEADER) // _RECORD.size

    @property
    def count(self) -> int:
        """Spans written so far, those overwritten since included."""
        found: int = _COUNT.unpack_from(self._map)[0]
        return found

    @property
    def lost(self) -> int:
        """How many spans were overwritten."""
        return max(0, self.count - self._capacity)

    def write(
        self, stage: int, item: int, get: int, start: int, end: int, put: int,
        nbytes: int = 0, cpu: int = 0, cause: int = -1, flags: int = 0,
    ) -> None:  # fmt: skip
        """Store one span (times in ns). Only the process that the ring was made for may call this."""
        n = self.count
        _RECORD.pack_into(
            self._map, _HEADER + n % self._capacity * _RECORD.size,
            item, cause, get, start, end, put, nbytes, cpu, stage, self.thread, flags,
        )  # fmt: skip
        _COUNT.pack_into(self._map, 0, n + 1)

    def raw(self) -> bytes:
        """A copy of the whole ring, in the order of its memory."""
        return self._map[_HEADER:]

    def array(self) -> npt.NDArray[np.void]:
        """A copy of the spans held, oldest first."""
        from datapipe.events import in_order

        count = self.count
        return in_order(self.raw(), count)


def make_ring_file(path: str | os.PathLike[str], capacity: int) -> None:
    """Make the file of a ring of `capacity` spans (72 bytes each), with all of its space.

    A mapped page that a full disk has no room for would end whoever touches it (SIGBUS).

    Raises:
        OSError: it cannot be made, is there already, or has no room; then it is not there.
    """
    size = _HEADER + capacity * _RECORD.size
    with Path(path).open("xb") as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.write(bytes(size))
                file.flush()
        except OSError:
            Path(path).unlink()
            raise
