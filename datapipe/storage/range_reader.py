"""A seekable file over ranged reads: positions enter, bytes leave, in few requests.

Invariant: what is read is what the ranges hold, in order. A jump (Parquet reading its columns) fetches only what was
asked for; reading on where the last read ended (decompression) doubles the read-ahead up to 8 MiB, so that a long
file costs few requests and a footer costs one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from datapipe.sized_file import SizedFile

if TYPE_CHECKING:
    from collections.abc import Callable

_LEAST: Final = 64 << 10
_MOST: Final = 8 << 20


@final
class RangeReader(SizedFile):
    """The raw part of a remote reader; wrap it in `io.BufferedReader`.

    Args:
        fetch: the bytes [start, end) of the object, all of them, or an error of ours.
        size: the object's size in bytes.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        super().__init__(size)
        self._fetch = fetch
        self._held = memoryview(b"")
        self._held_at = 0
        self._ahead = _LEAST

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # (the stub wants Buffer, 3.12)
        """Fill `buffer` as far as the object goes; returns how many bytes."""
        out = memoryview(buffer).cast("B")
        wanted = min(len(out), self._size - self._at)
        done = 0
        while done < wanted:
            if not self._held_at <= self._at < self._held_at + len(self._held):
                self._fill(wanted - done)
            part = self._held[self._at - self._held_at :][: wanted - done]
            out[done : done + len(part)] = part
            done += len(part)
            self._at += len(part)
        return max(0, done)

    def _fill(self, wanted: int) -> None:
        sequential = self._at == self._held_at + len(self._held)
        self._ahead = min(_MOST, self._ahead * 2) if sequential else _LEAST
        end = min(self._size, self._at + max(wanted, self._ahead))
        self._held = memoryview(self._fetch(self._at, end))
        self._held_at = self._at
