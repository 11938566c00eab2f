"""Files in memory that the decoder reads encoded sounds from.

What enters: the bytes of a sound. What leaves: a file of them, or a BytesIO where there are no such files. Invariant: a
file is one sound's until it is given back, by the one that has it; then the next is written over it.

From a BytesIO the decoder reads through Python, some thirty times a sound, and each time it waits for the interpreter
lock (two threads that check sounds came to 0.71 of two that only decode). From a file in memory (`memfd_create`, Linux)
it reads without. Files are used again: the pages of a new one took 93 µs of the 1.6 ms of a FLAC of 250 kB, writing
over those that are there 20 µs.
"""

from __future__ import annotations

import io
import os
from typing import Final

MOST_KEPT: Final = 64
"""Files that wait for the next sound: two threads with a batch of 32 each."""
MOST_BYTES: Final = 1 << 20
"""Of a file that is kept; that of a longer sound is let go."""
_free: list[io.FileIO] = []


def file_of(data: bytes) -> io.BytesIO | io.FileIO:
    """A file that holds `data`, at its beginning; to be given to `give_back` once, by whoever has it."""
    if not hasattr(os, "memfd_create"):
        return io.BytesIO(data)
    try:
        file = _free.pop()
    except IndexError:
        file = None
    try:
        if file is None:
            file = io.FileIO(os.memfd_create("sound", os.MFD_CLOEXEC), "r+b")
        file.seek(0)
        if file.write(data) != len(data):
            raise OSError("not all of it was written")  # noqa: TRY301  (as when there is no room)
        file.truncate()
        file.seek(0)
    except OSError:  # as many files are open as may be, or there is no room
        return io.BytesIO(data)
    return file


def give_back(file: io.BytesIO | io.FileIO) -> None:
    """The file is used no more."""
    if isinstance(file, io.FileIO) and len(_free) < MOST_KEPT and os.fstat(file.fileno()).st_size <= MOST_BYTES:
        _free.append(file)
    else:
        file.close()


def _forget() -> None:
    """In a child after a fork: going on with them, it would write over sounds that its parent is about to read."""
    _free.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
