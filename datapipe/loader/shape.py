"""The contract of shaping: how the rows of one window become units, from their lengths alone.

What enters: lengths. What leaves: units, and how many. Invariant: the number of units depends on the multiset of
lengths alone, so that it is the same in every epoch, however rows are shuffled within the window.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """Units made of (parts of) rows.

    Attributes:
        cuts: int64[u + 1]: unit i is made of pieces [cuts[i], cuts[i + 1]).
        item: int64[n]: each piece's row. start, length: int64[n]: which part of it.
    """

    cuts: Ints
    item: Ints
    start: Ints
    length: Ints

    def __len__(self) -> int:
        return len(self.cuts) - 1


class Shape(abc.ABC):
    """A way to make units.

    Attributes:
        packs, divisible: see `datapipe.loader.sequence.Sequence`.
    """

    packs: bool = False
    divisible: bool = False

    @abc.abstractmethod
    def units(self, lengths: Ints) -> Units:
        """Units of rows of these lengths, which are in the order wanted."""

    @abc.abstractmethod
    def count(self, lengths: Ints) -> int:
        """How many units those are."""
