"""A file whose size is known before it is read: where one is in it, for those who say what its bytes are.

What enters: a size, moves. What leaves: a position, asked for by readers in Python and by Arrow. Invariant: a position
is never before the start; beyond the end is allowed, as of any file, and reads as the end.
On the lowest floor, as what is read by ranges is read on all of them: stores, datasets, rows between stages.
"""

from __future__ import annotations

import abc
import io


class SizedFile(io.RawIOBase, abc.ABC):
    """A seekable file to be read; whoever inherits says how, by `read` or `readinto`, and moves `_at`.

    Args:
        size: bytes.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position, in bytes from the start."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; nothing is read.

        Raises:
            ValueError: to before the start.
        """
        place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if place < 0:
            raise ValueError(f"seek to {place}, before the start")
        self._at = place
        return place

    def size(self) -> int:
        """Bytes of the file (asked for by Arrow)."""
        return self._size
