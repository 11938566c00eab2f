"""Recycled buffers: large arrays whose memory is used again once nobody holds them.

What enters: a shape and a dtype. What leaves: an uninitialised array over recycled memory. Invariant: memory is handed
out again only after the array, and every view, slice and tensor over it, is gone; so a consumer may keep a batch for
as long as it likes, and then simply costs a further buffer.

How that is known: the array is made over a memoryview, so every view of it keeps the *array* alive (numpy cuts the
chain of bases short only between arrays), and a weak reference to the array tells when the last one went. No
reference counts are read, and nothing has to be given back by hand.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

SMALL: Final = 1 << 15
"""Below this many bytes the allocator is as fast, and nothing is recycled."""
_IDLE_BYTES: Final = 256 << 20
_REMEMBERED_SHAPES: Final = 1024


def plain_memory(nbytes: int) -> memoryview:
    """Pageable memory."""
    return memoryview(np.empty(nbytes, np.uint8).data)


@final
class BufferPool:
    """Hands out arrays over recycled memory; safe to share by threads.

    Attributes:
        allocated: buffers allocated so far. overflows: arrays made over plain memory as there was none of the other.

    Args:
        allocate: bytes → writable memory; `plain_memory`, or page-locked memory where a GPU is fed. None: there is no
            more of it, and until there is, arrays are made over plain memory.
        idle_bytes: unused memory kept at most; beyond it, freed.
        recycle_all: recycle small arrays too (page-locked memory is dear to allocate whatever its size).
    """

    def __init__(
        self,
        allocate: Callable[[int], memoryview | None] = plain_memory,
        *,
        idle_bytes: int = _IDLE_BYTES,
        recycle_all: bool = False,
    ) -> None:
        self._allocate = allocate
        self._idle_bytes = idle_bytes
        self._smallest = 1 if recycle_all else SMALL
        # deque and dict operations are atomic: a weak reference's callback may run in any thread, at any moment, even
        # inside `empty`, so a lock here could wait for itself.
        self._free: dict[int, deque[memoryview]] = {}
        self._lent: dict[int, tuple[Any, memoryview]] = {}
        self._plans: dict[Any, tuple[np.dtype[Any], int, int]] = {}
        self._overflow: BufferPool | None = None
        self.allocated = 0
        self.overflows = 0

    @property
    def lent(self) -> int:
        """Buffers that somebody holds."""
        return len(self._lent) + (self._overflow.lent if self._overflow is not None else 0)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An uninitialised, C-contiguous, writable array."""
        try:
            kind, count, size = self._plans[shape, dtype]
        except KeyError:
            kind, count, size = self._plan(shape, dtype)
        if not size:
            return np.empty(shape, kind)
        try:
            memory = self._free[size].popleft()
        except (KeyError, IndexError):
            found = self._allocate(size)
            if found is None:
                self._drop_idle()  # buffers of other sizes may make room
                found = self._allocate(size)
            if found is None:
                return self._plain(shape, dtype)
            memory = found
            self.allocated += 1
        # Not np.ndarray(buffer=…): that looks through the memoryview to the array beneath, and views would do so too.
        array: npt.NDArray[Any] = np.frombuffer(memory, kind, count)
        watch = weakref.ref(array, self._returned)
        self._lent[id(watch)] = (watch, memory)
        return array if len(shape) == 1 else array.reshape(shape)

    def _plain(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array from a pool of plain memory, which is recycled by itself: it must not mix with the other kind."""
        if self._overflow is None:
            self._overflow = BufferPool(idle_bytes=self._idle_bytes)
        self.overflows += 1
        return self._overflow.empty(shape, dtype)

    def _drop_idle(self) -> None:
        for free in list(self._free.values()):
            free.clear()

    def _plan(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[np.dtype[Any], int, int]:
        """(dtype, values, size of its buffer or 0 for none), remembered: a loader asks for few shapes, many times."""
        kind = np.dtype(dtype)
        count = math.prod(shape)
        nbytes = count * kind.itemsize
        plan = (kind, count, _size_class(nbytes) if nbytes >= self._smallest else 0)
        self._free.setdefault(plan[2], deque())
        if len(self._plans) < _REMEMBERED_SHAPES:
            self._plans[shape, dtype] = plan
        return plan

    def _returned(self, watch: Any) -> None:
        _, memory = self._lent.pop(id(watch))
        size = idle = memory.nbytes
        for each, free in list(self._free.items()):
            idle += each * len(free)
        if idle <= self._idle_bytes:
            # Last in, first out: what was just released is likeliest to lie in the cache.
            # (No module name is used here: at interpreter exit they are gone before the last batch is.)
            self._free[size].appendleft(memory)


def _size_class(nbytes: int) -> int:
    """The next of eight sizes per doubling: batches of varying length share buffers and waste at most 1/8."""
    step = 1 << max(9, nbytes.bit_length() - 4)
    return -(-nbytes // step) * step
