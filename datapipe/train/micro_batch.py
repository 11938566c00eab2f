"""How many of a batch's rows go through the model at once.

What enters: a batch from the loader, and what fits. What leaves: the same rows in pieces, in order. Invariant: a
gradient is summed over all pieces and divided once by all targets, so the global batch and the loader's place are the
same whatever the size of a piece; only the order of the sums differs (and what a model computes across rows, like
BatchNorm, is over a piece).
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from torch import Tensor

from datapipe.errors import TrainError

if TYPE_CHECKING:
    from collections.abc import Callable


def rows_of(batch: Any) -> int:
    """Rows of a batch: the length of its first tensor, nested ones included."""
    found = _first_length(batch)
    return 0 if found is None else found


def in_pieces(batch: Any, rows: int | None, *, least: int = 1) -> list[Any]:
    """The batch as pieces of at most `rows` rows, of lengths that differ by 1 at most; None: as it is.

    Tensors and lists as long as the batch are cut, without a copy; scalars and what is no sequence goes with every
    piece.

    Args:
        least: pieces, of which some may then be without a row: ranks that share layers take as many as one another.

    Raises:
        TrainError: a tensor or list is of another length, so that nobody can tell which rows it belongs to.
    """
    total = rows_of(batch)
    count = 1 if rows is None else max(math.ceil(total / rows), least)
    if count == 1:
        return [batch]
    borders = [total * place // count for place in range(count + 1)]
    return [_cut(batch, slice(*pair), total, "the batch") for pair in itertools.pairwise(borders)]


def first_rows(batch: Any, rows: int) -> Any:
    """The first rows of a batch, without a copy; errors as of `in_pieces`."""
    total = rows_of(batch)
    return batch if total <= rows else _cut(batch, slice(0, rows), total, "the batch")


def copied(batch: Any) -> Any:
    """The batch with tensors of its own."""
    if isinstance(batch, dict):
        return {name: copied(value) for name, value in batch.items()}
    return batch.clone() if isinstance(batch, Tensor) else batch


def fewest_pieces(rows: int, fits: Callable[[int], bool]) -> int:
    """The most rows at once that leave the fewest pieces, found in O(log rows) tries.

    The number of pieces is doubled until one fits, and the least found by bisection between that and the one before.

    Args:
        rows: of a whole batch; tried first. fits: whether that many go through the model; who fits, fits with fewer.

    Returns:
        Rows of a piece; 0: not even one fits.
    """
    if rows < 1:
        return 0
    low, high = 0, 1  # the pieces that do not fit, and those to try
    while not fits(math.ceil(rows / high)):
        if high >= rows:
            return 0
        low, high = high, min(2 * high, rows)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(math.ceil(rows / middle)):
            high = middle
        else:
            low = middle
    return math.ceil(rows / high)


def _first_length(value: Any) -> int | None:
    if isinstance(value, Tensor):
        return len(value) if value.ndim else None
    if isinstance(value, dict):
        return next((length for each in value.values() if (length := _first_length(each)) is not None), None)
    return None


def _cut(value: Any, part: slice, total: int, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _cut(each, part, total, str(key)) for key, each in value.items()}
    if isinstance(value, Tensor) and not value.ndim:
        return value
    if isinstance(value, (Tensor, list, tuple)):
        if len(value) != total:
            raise TrainError(
                f"{name} is of length {len(value)} in a batch of {total} rows: it cannot be cut into micro-batches",
                expected="a row of every column for every row of the batch",
                fix="micro_batch=None and a smaller batch_size with a larger accumulate",
            )
        return value[part]
    return value
