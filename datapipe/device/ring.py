"""The pinned ring: a few large pieces of page-locked memory, cut up and used again, within a bound of bytes.

What enters: how many bytes a buffer needs. What leaves: a memoryview over part of a piece. Invariants: no byte belongs
to two buffers; a part comes back once its memoryview and everything made over it are gone; pieces are allocated when
first needed, together never more than the bound, and kept.

Why not one allocation per buffer: page-locking takes about a millisecond for each MB and stops the device while it
lasts, and torch's own cache of page-locked memory rounds each request up to a power of two.
"""

from __future__ import annotations

import bisect
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_BYTES: Final = 4 << 20
PIECE_BYTES: Final = 64 << 20
"""Of the first piece, and of the largest: each is as large as all before it together, so that a small loader locks
little and a large one soon has all it needs. Less where the bound leaves less, more where one buffer is larger. Powers
of two: torch rounds up to one."""
ALIGN: Final = 512
"""Parts begin at multiples of it: what torch's own allocators align to, on host and device."""


@final
class PinnedRing:
    """Parts of page-locked memory; safe to share by threads.

    Args:
        allocate: bytes → writable memory, or None where there is none to be had: then no more is asked for.
        most_bytes: of all pieces together.

    Attributes:
        nbytes: of the pieces allocated so far.
    """

    def __init__(self, allocate: Callable[[int], memoryview | None], *, most_bytes: int) -> None:
        self._allocate = allocate
        self._most = most_bytes
        self._pieces: list[memoryview] = []
        self._free: list[list[tuple[int, int]]] = []  # of each piece its free parts (begin, end), sorted, none adjacent
        self._lock = threading.Lock()
        # A part's last holder may let go in any thread, at any moment, even inside the lock: returns only append here.
        self._returned: deque[tuple[int, int, int, int]] = deque()
        self._watched: dict[int, Any] = {}
        self.nbytes = 0

    def take(self, nbytes: int) -> memoryview | None:
        """Memory of `nbytes` bytes; None: there is no room now, or none can be page-locked."""
        size = max(ALIGN, -(-nbytes // ALIGN) * ALIGN)
        with self._lock:
            self._collect()
            place = self._find(size)
            if place is None and self._grow(size):
                place = self._find(size)
        if place is None:
            return None
        piece, begin = place
        # The array between the piece and the memoryview is what every view keeps alive, see `pool`.
        part = np.frombuffer(self._pieces[piece], np.uint8, nbytes, begin)
        watch = weakref.ref(part, self._let_go)
        self._watched[id(watch)] = (watch, piece, begin, begin + size)
        return memoryview(part.data)

    def _let_go(self, watch: Any) -> None:
        _, piece, begin, end = self._watched.pop(id(watch))
        self._returned.append((piece, begin, end, 0))

    def _collect(self) -> None:
        while self._returned:
            piece, begin, end, _ = self._returned.popleft()
            free = self._free[piece]
            at = bisect.bisect(free, (begin, end))
            if at < len(free) and free[at][0] == end:
                end = free.pop(at)[1]
            if at and free[at - 1][1] == begin:
                begin = free.pop(at - 1)[0]
                at -= 1
            free.insert(at, (begin, end))

    def _find(self, size: int) -> tuple[int, int] | None:
        """The first free part that is large enough, cut off at its beginning."""
        for piece, free in enumerate(self._free):
            for at, (begin, end) in enumerate(free):
                if end - begin >= size:
                    if end - begin == size:
                        del free[at]
                    else:
                        free[at] = (begin + size, end)
                    return piece, begin
        return None

    def _grow(self, size: int) -> bool:
        """Another piece that holds `size` bytes, if the bound leaves room for it."""
        room = self._most - self.nbytes
        wanted = max(FIRST_BYTES, 1 << (size - 1).bit_length(), min(PIECE_BYTES, _power_of_two(self.nbytes)))
        if wanted > room:
            wanted = _power_of_two(room)
        if wanted < size:
            return False
        piece = self._allocate(wanted)
        if piece is None:
            self._most = self.nbytes
            return False
        self._pieces.append(piece)
        self._free.append([(0, wanted)])
        self.nbytes += wanted
        return True


def _power_of_two(number: int) -> int:
    """The largest one that is not above it."""
    return 1 << number.bit_length() - 1 if number > 0 else 0
