"""Variable-length lists of numbers: from many row groups to one padded array and the lengths.

What enters: list columns of blocks, and where the wanted rows lie. What leaves: per batch values [B, max], zero to the
right, and lengths [B]. Invariant: exactly the stored values, in order; values are found by address, and copied once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import pyarrow.compute as pc

from datapipe.errors import LoaderError
from datapipe.loader.column_types import Reading
from datapipe.loader.rows import ScatteredRows, address_of
from datapipe.loader.texts import aligned
from datapipe.loader.values import flat_values, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.device import BufferPool
    from datapipe.loader.columns import Column

    Ints = npt.NDArray[np.int64]

_SHORT: Final = 64
"""Elements of a list, on average, below which they are gathered one by one in numpy rather than list by list in
Python: a list costs 0.5 µs, an element 8 ns."""


@final
class ListBlock:
    """The lists of one block's column.

    Attributes:
        offsets: int64[n + 1]: row i has elements [offsets[i], offsets[i + 1]) of `values`. A missing list is empty.
        values: flat, as `flat_values` makes and checks them.

    Raises:
        LoaderError: a list is missing, and no word was said of nulls; or a value cannot be delivered.
    """

    def __init__(self, array: pa.Array, column: Column) -> None:
        array = plain(array)
        if array.null_count:
            if column.fill is None and column.reading is not Reading.VALID:
                raise LoaderError(
                    f"column {column.name!r} holds {array.null_count} null(s)",
                    expected="no missing lists",
                    fix=f'nulls={{"{column.name}": "mask"}} or a number: a missing list then comes as an empty one',
                )
            lengths = pc.fill_null(array.value_lengths(), 0).to_numpy(zero_copy_only=False)
            self.offsets: Ints = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        else:
            self.offsets = array.offsets.to_numpy().astype(np.int64)
            self.offsets -= self.offsets[0]
        self.values = aligned(flat_values(array.flatten(), column))
        self.nbytes = self.offsets.nbytes + self.values.nbytes


@final
class Lists:
    """Wanted rows of one list column, padded a batch at a time.

    Args:
        blocks: in the order that `slot` counts; held. slot, row: int64[n], one per wanted row.
    """

    def __init__(self, column: Column, blocks: Sequence[ListBlock], slot: Ints, row: Ints) -> None:
        self._column = column
        self._blocks = blocks
        self._slot = slot
        self._addresses = np.array([address_of(block.values) for block in blocks], np.int64)
        if not len(row):
            self._begin = self._length = np.empty(0, np.int64)
            return
        offsets = np.array([address_of(block.offsets) for block in blocks], np.int64)
        self._begin = ScatteredRows(offsets, slot, row, np.dtype(np.int64), 1).take(0, len(row))
        end = ScatteredRows(offsets + 8, slot, row, np.dtype(np.int64), 1).take(0, len(row))
        self._length = end - self._begin

    def batch(self, first: int, last: int, pool: BufferPool) -> tuple[npt.NDArray[Any], Ints]:
        """Values [B, max, *shape] and lengths [B] of the wanted rows [first, last)."""
        column = self._column
        lengths = self._length[first:last].copy()
        rows, longest = last - first, int(lengths.max(initial=0))
        out = pool.empty((rows, longest, *column.shape), column.dtype)
        total = int(lengths.sum())
        if total < rows * longest:
            out[...] = 0
        if total and column.width:
            self._fill(out.reshape(rows * longest, column.width), first, last, lengths, longest, total)
        return out, lengths

    def _fill(self, flat: npt.NDArray[Any], first: int, last: int, lengths: Ints, longest: int, total: int) -> None:
        slot, begin, width = self._slot[first:last], self._begin[first:last], self._column.width
        target = np.arange(last - first) * longest
        if total < _SHORT * len(lengths):
            within = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            element = np.repeat(begin, lengths) + within
            found = ScatteredRows(self._addresses, np.repeat(slot, lengths), element, self._column.stored, width)
            flat[np.repeat(target, lengths) + within] = found.take(0, total).reshape(total, width)
            return
        values = [block.values.reshape(-1, width) for block in self._blocks]
        ends = (begin + lengths).tolist()
        for s, a, b, t in zip(slot.tolist(), begin.tolist(), ends, target.tolist(), strict=True):
            flat[t : t + b - a] = values[s][a:b]
