"""Gathering rows by address: rows scattered over many blocks become one array in one numpy call.

What enters: the address of the first row of each block, and where each wanted row lies. What leaves: the rows, in
order. Invariant: only addresses inside blocks that the caller keeps alive are read.

A batch's rows come from dozens of blocks, so that numpy's gather, which takes one array, would be called once per row.
But rows of a fixed width differ in address alone: a read-only, overlapping view whose row i begins i elements after
the lowest block covers them all, and indexing it copies exactly the rows asked for. Measured on rows of 2048 int32:
1.35M rows/s, as fast as from one contiguous array; a copy per row 0.7M; a numpy gather per block 0.3M.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

_STEP_BYTES: Final = 1 << 18
"""Rows gathered at once go through a temporary of this size, so that the second copy reads from the L2 cache."""
_MAX_EXTENT: Final = 1 << 62
"""numpy refuses views whose nominal size overflows; rows that wide are copied one at a time, at no loss."""


@final
class _Span:
    """Describes memory to numpy; holds nothing."""

    def __init__(self, address: int, dtype: np.dtype[Any], count: int, width: int) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (address, True),
            "typestr": dtype.str,
            # A column of scalars is a plain vector: numpy indexes it several times faster than rows of one.
            "shape": (count, width) if width > 1 else (count,),
            "strides": (dtype.itemsize,) * (2 if width > 1 else 1),
        }


@final
class ScatteredRows:
    """Rows of one column at given places in given blocks.

    Args:
        addresses: int64[b]: the address of each block's first row, a multiple of the item size.
        slot: int64[n], index into `addresses`, and row: int64[n], row within the block: one per wanted row.
        width: values per row.

    The caller keeps the blocks alive as long as it calls `copy_to`.
    """

    def __init__(self, addresses: Ints, slot: Ints, row: Ints, dtype: np.dtype[Any], width: int) -> None:
        self._dtype = dtype
        self._width = width
        self._index: Ints = np.empty(0, np.int64)
        self._view: npt.NDArray[Any] | None = None
        self._step = max(1, _STEP_BYTES // max(1, width * dtype.itemsize))
        if not width or not len(row):
            return
        base = int(addresses.min())
        start = (addresses - base) // dtype.itemsize
        index = start[slot]
        index += row * width if width > 1 else row
        self._index = index
        count = int(index.max()) + 1
        self._base = base
        if count * width * dtype.itemsize < _MAX_EXTENT:
            self._view = np.asarray(_Span(base, dtype, count, width))

    def copy_to(self, out: npt.NDArray[Any], first: int, last: int) -> None:
        """Write wanted rows [first, last) into `out`, of last - first rows of `width` values, cast to its dtype."""
        if not out.size:
            return
        if out.ndim != 2 or self._width == 1:
            out = out.reshape((last - first, self._width) if self._width > 1 else -1)  # contiguous: never a copy
        view, index, step = self._view, self._index, self._step
        if view is None:
            for at in range(first, last):
                row = _Span(self._base + int(index[at]) * self._dtype.itemsize, self._dtype, 1, self._width)
                out[at - first] = np.asarray(row)[0]
        elif last - first <= step:
            out[...] = view[index[first:last]]
        else:
            for start in range(first, last, step):
                stop = min(start + step, last)
                out[start - first : stop - first] = view[index[start:stop]]
