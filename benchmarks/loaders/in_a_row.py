"""Epochs in a row: how many of them a round times, and a loader that lives as long.

What enters: how to make a loader. What leaves: its epochs, one at a time. Invariant: the first of a round begins with
nothing at hand: the loader is made for it, and closed after the last.

A loader reads ahead for its next epoch while the last batches of this one are made. Where each epoch has a loader of
its own, as it is timed by default, that is thrown away: up to a third of a small corpus is decoded in vain. Who trains
for several epochs with one loader has the rate of `--epochs 3`.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EPOCHS: Final = "DATAPIPE_BENCHMARK_EPOCHS"


def in_a_row() -> int:
    """Epochs that a round times."""
    return int(os.environ.get(EPOCHS, "1"))


@final
class Living:
    """Epochs of one loader after the other.

    Args:
        make: number of the loader → the loader, which has `close`.
    """

    def __init__(self, make: Callable[[int], Any]) -> None:
        self._make = make
        self._numbers = itertools.count()
        self._loader: Any = None
        self._left = 0

    def __call__(self) -> Iterator[Any]:
        """The next epoch."""
        if not self._left:
            self._left = in_a_row()
            self._loader = self._make(next(self._numbers))
        yield from self._loader
        self._left -= 1
        if not self._left:
            self._loader.close()
            self._loader = None
