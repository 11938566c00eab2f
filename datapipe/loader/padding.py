"""How much of what is delivered is padding.

What enters: of each batch its tokens, and the places they stand in. What leaves: both sums. Invariant: every batch made
is counted once, by whichever thread made it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from datapipe.locks import new_lock

if TYPE_CHECKING:
    from datapipe.loader.filled import FilledBins
    from datapipe.loader.gather import Prepared


@final
class Padding:
    """Sums over the batches made so far.

    Args:
        column: the column that is measured; None: rows are packed.

    Attributes:
        tokens: in those batches. places: those of their padded arrays.
    """

    def __init__(self, column: str | None = None) -> None:
        self._column = column
        self._lock = new_lock()
        self.tokens = self.places = 0

    def count(self, prepared: Prepared | FilledBins, at: int, batch: dict[str, Any]) -> None:
        """Count a batch: number `at` of a prepared stretch."""
        if self._column is None:
            bins, stretch = prepared.stretch.bins, prepared.stretch
            assert bins is not None
            tokens = int(bins.length[stretch.cuts[at] : stretch.cuts[at + 1]].sum())
            places = batch[next(iter(batch))].size
        elif f"{self._column}_lengths" in batch:
            tokens = int(batch[f"{self._column}_lengths"].sum())
            places = batch[self._column].size
        else:  # text and bytes are not padded
            return
        with self._lock:
            self.tokens += tokens
            self.places += places
