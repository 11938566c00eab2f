"""`Bucket`: rows of near lengths share a batch, so that little of it is padding.

What enters: boundaries of lengths, or how many tokens a batch may hold, padding included. What leaves: options, and for
`max_tokens` batches as units (`TokenBatches`). Invariant: every row is in one batch; a batch of more than one row takes
at most `max_tokens`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from datapipe.errors import ConfigError
from datapipe.loader.shape import Shape, Units

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]


@final
@dataclass(frozen=True)
class Bucket:
    """Batches of near lengths. Give `boundaries` or `max_tokens`.

    Attributes:
        boundaries: ascending lengths. A row belongs to the first bucket whose boundary it does not exceed, or to one
            beyond them. Batches have `batch_size` rows, all of one bucket but where two buckets meet.
        max_tokens: of one batch, its padding included: rows x longest. A batch has at most `batch_size` rows; a row of
            more tokens is a batch by itself. A step has one such batch for each rank; resumed on another number of
            ranks a step keeps them: fewer ranks are given several of them as one, more ranks share one.
        column: the column whose rows are measured (lists: their values; text: its bytes). None: `tokens`, else
            `input_ids`, `audio`, `samples`, else the only one of variable length.
        length: a column that holds the lengths; None: `n_tokens` (of sounds `frames`) if there is one, see
            `datapipe.loader.lengths`.

    Raises:
        ConfigError: neither or both are given, or they are out of range.
    """

    boundaries: Sequence[int] | None = None
    max_tokens: int | None = None
    column: str | None = None
    length: str | None = None

    def __post_init__(self) -> None:
        if (self.boundaries is None) == (self.max_tokens is None):
            raise ConfigError(
                f"Bucket(boundaries={self.boundaries!r}, max_tokens={self.max_tokens!r})",
                expected="one of the two",
                fix="boundaries for batches of batch_size rows, max_tokens for batches of about as many tokens",
            )
        if self.max_tokens is not None:
            if not _whole(self.max_tokens) or self.max_tokens < 1:
                raise ConfigError(f"Bucket(max_tokens={self.max_tokens!r})", expected="a whole number from 1")
            return
        lengths = list(self.boundaries or ())
        if not lengths or not all(map(_whole, lengths)) or sorted(set(lengths)) != lengths or lengths[0] < 0:
            raise ConfigError(
                f"Bucket(boundaries={self.boundaries!r})", expected="ascending lengths, such as [128, 512]"
            )


def _whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


@final
class TokenBatches(Shape):
    """Batches of whole rows, the longest rows first, each as many as fit.

    Args:
        max_tokens: rows x longest of a batch. max_rows: of a batch.
    """

    divisible = True

    def __init__(self, max_tokens: int, max_rows: int) -> None:
        self._max_tokens = max_tokens
        self._max_rows = max_rows

    def units(self, lengths: Ints) -> Units:
        """Of equal lengths the earlier row goes first."""
        item = np.argsort(-lengths, kind="stable")
        length = lengths[item]
        cuts = np.array(self._cuts(length), np.int64)
        return Units(cuts=cuts, item=item, start=np.zeros(len(item), np.int64), length=length)

    def count(self, lengths: Ints) -> int:
        """Of the multiset alone: rows are sorted."""
        return len(self._cuts(np.sort(lengths)[::-1])) - 1

    def _cuts(self, descending: Ints) -> list[int]:
        cuts, end = [0], len(descending)
        while cuts[-1] < end:
            at = cuts[-1]
            rows = self._max_tokens // max(1, int(descending[at]))
            cuts.append(min(end, at + max(1, min(rows, self._max_rows))))
        return cuts
