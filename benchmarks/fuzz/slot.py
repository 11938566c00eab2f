"""What a fuzzing process and its parent share: a small mapped file with the input at hand and the counts.

Invariant: the input lies there before it is read, so that it outlives the process.
"""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from pathlib import Path

_HEAD: Final = struct.Struct("<QQQQ")  # inputs begun, inputs done, of them refused, bytes of the input at hand
_SIZE: Final = 1 << 20


@final
class Slot:
    """The file, mapped; made where there is none."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SIZE)

    def _numbers(self) -> tuple[int, int, int, int]:
        return _HEAD.unpack_from(self._map)

    def begin(self, data: bytes) -> None:
        """An input is about to be read."""
        begun, done, refused, _ = self._numbers()
        data = data[: _SIZE - _HEAD.size]
        self._map[_HEAD.size : _HEAD.size + len(data)] = data
        _HEAD.pack_into(self._map, 0, begun + 1, done, refused, len(data))

    def done(self, *, refused: bool) -> None:
        """It was read, or refused by an error of ours."""
        begun, done, before, size = self._numbers()
        _HEAD.pack_into(self._map, 0, begun, done + 1, before + refused, size)

    @property
    def begun(self) -> int:
        """Inputs that were begun."""
        return self._numbers()[0]

    @property
    def refused(self) -> int:
        """Inputs that ended in an error of ours."""
        return self._numbers()[2]

    @property
    def input(self) -> bytes:
        """The input at hand."""
        return self._map[_HEAD.size : _HEAD.size + self._numbers()[3]]

    @property
    def unfinished(self) -> bool:
        """Whether an input was begun and not done."""
        begun, done, _, _ = self._numbers()
        return begun > done

    def settle(self) -> None:
        """Count what killed its process as done."""
        begun, _, refused, size = self._numbers()
        _HEAD.pack_into(self._map, 0, begun, begun, refused, size)
