"""Parts of a file that stand for the whole: byte ranges enter, a seekable file of them leaves.

Invariant: a read that the parts do not cover is an error, never a short answer.
"""

from __future__ import annotations

import bisect
import operator
from typing import TYPE_CHECKING, final

import pyarrow as pa

from datapipe.sized_file import SizedFile

if TYPE_CHECKING:
    from collections.abc import Sequence


@final
class ByteRanges(SizedFile):
    """A read-only file of which only some byte ranges are in memory: Arrow's readers ask for no others.

    Args:
        size: the whole file's length. parts: (where it begins, its bytes), which do not overlap.
    """

    def __init__(self, size: int, parts: Sequence[tuple[int, memoryview]]) -> None:
        super().__init__(size)
        self._parts = sorted(parts, key=operator.itemgetter(0))
        self._starts = [start for start, _ in self._parts]

    def read(self, n: int = -1) -> memoryview:  # Arrow takes any buffer, without a copy
        """The next n bytes, which must be of one part."""
        end = self._size if n < 0 else min(self._size, self._at + n)
        place = bisect.bisect_right(self._starts, self._at) - 1
        if place >= 0:
            start, data = self._parts[place]
            if end <= start + len(data):
                view = data[self._at - start : end - start]
                self._at = end
                return view
        raise OSError(f"bytes [{self._at}, {end}) were not fetched")

    def opened(self) -> pa.NativeFile:
        """The same for Arrow, without the interpreter where there is one part, as where all columns are wanted.

        Then a buffer is described to Arrow that would hold the file from its start to the part's end, and of which only
        the part is there: whoever reads sees to it that nothing before that is asked for. What lies past the end is an
        error. Each call into Python has a thread wait for the interpreter's lock, for the switch interval of 5 ms if
        the consumer is busy making strings, and a row group of 40 columns makes 84.
        """
        if len(self._parts) == 1:
            start, data = self._parts[0]
            held = pa.py_buffer(data)
            if held.size and start < held.address:
                return pa.BufferReader(pa.foreign_buffer(held.address - start, start + held.size, held))
        return pa.PythonFile(self, mode="r")


def coalesce(spans: Sequence[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Byte ranges [start, end), sorted, joined where the gap between two is at most `gap`."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start - joined[-1][1] <= gap:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
