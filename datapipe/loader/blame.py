"""Which row made a transform fail, and where it is stored.

What enters: what a transform was given, and its error. What leaves: notes on that error: shard, row group and row, or
those of the batch. Invariant: the error itself stays as it was; the search runs the transform again on halves of the
rows, which gives the same, since what it does to a row depends on the row and its keys alone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from datapipe.errors import DatapipeError
from datapipe.loader.transform import RowKeys

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    import pyarrow as pa

    Ints = npt.NDArray[np.int64]

MOST_SECONDS: Final = 1.0
"""A search that takes longer is given up: it makes about two runs in all."""
_SHOWN: Final = 4


def failing_row(
    table: pa.Table, keys: RowKeys, error: Exception, run: Callable[[pa.Table, RowKeys], Any]
) -> int | None:
    """The first row of a table with which a transform fails alone; None: it fails only with several together.

    Args:
        error: what it raised. run: the transform.
    """
    began = time.monotonic()

    def fails(low: int, high: int) -> bool:
        part = RowKeys(seed=keys.seed, epoch=keys.epoch, rows=keys.rows[low:high])
        try:
            run(table.slice(low, high - low), part)
        except Exception as again:
            return type(again) is type(error)
        return False

    if isinstance(error, DatapipeError | MemoryError):
        return None  # the rows are not at fault, or not one of them
    low, high = 0, len(keys.rows)
    while high - low > 1:
        half = (low + high) // 2
        if fails(low, half):
            high = half
        elif time.monotonic() - began < MOST_SECONDS and fails(half, high):
            low = half
        else:
            return None
    return low if high > low else None


def name_row(error: Exception, row: int, group: Any) -> None:
    """Say which row it was, as `Dataset.take` counts, and where that is stored."""
    error.add_note(f"it fails with row {row} alone: shard {group.path}, row group {group.group}")


def name_batch(error: Exception, batch: int, blocks: Ints, groups: Any) -> None:
    """Say which batch it was, and where its rows are stored."""
    found = [groups[block] for block in np.unique(blocks).tolist()]
    shown = ", ".join(f"{group.path} row group {group.group}" for group in found[:_SHOWN])
    more = f", … ({len(found)} row groups)" if len(found) > _SHOWN else ""
    error.add_note(f"batch {batch} of this rank's epoch, with rows of {shown}{more}")
