"""Rows that a reader adds one by one, given out as batches whenever one is due.

What enters: what collects the rows, and the reader's work, an item at a time. What leaves: batches.
Invariant: what was read before a fault comes out before the fault is raised, so that no row is lost to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from datapipe.corpus.file_fault import FileFault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from datapipe.corpus.piece import Batch


class Collected(Protocol):
    """Rows that are being collected."""

    @property
    def full(self) -> bool:
        """Whether a batch is due."""
        ...

    def __bool__(self) -> bool:
        """Whether there is anything to take."""
        ...

    def take(self) -> Batch:
        """What was collected; begins anew."""
        ...


def in_batches(rows: Collected, work: Iterable[object]) -> Iterator[Batch]:
    """The batches of what `work` adds to `rows`, an item at a time.

    Raises:
        FileFault: the rest of the file cannot be read.
    """
    fault: FileFault | None = None
    try:
        for _ in work:
            if rows.full:
                yield rows.take()
    except FileFault as found:
        fault = found
    if rows:
        yield rows.take()
    if fault is not None:
        raise fault
