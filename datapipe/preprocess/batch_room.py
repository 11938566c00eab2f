"""Batches cut so that what steps make of their rows has room: pixels take a hundred times the bytes of a JPEG.

What enters: a task's steps, tables as they are read. What leaves: the same rows in tables of so many at most.
Invariant: how many is told by the steps' options alone, never by what the rows hold or the machine has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

    from datapipe.steps import BoundStep

ROOM: Final = 32 << 20
"""Bytes of what is made at once, as 222 pictures of 224 × 224: a batch as it is read holds 8 MiB, which are 1,700 JPEGs
of 5 kB, or 256 MB of such pixels. A worker has 1 GiB, and steps and writers keep the same rows two or three times."""


def rows_at_once(steps: Iterable[BoundStep]) -> int | None:
    """How many rows have room; None: as many as are read at once."""
    sizes = [step.spec.row_bytes(step.options) for step in steps if step.spec.row_bytes is not None]
    return max(1, ROOM // max(1, *sizes, 1)) if sizes else None


def cut(tables: Iterable[pa.Table], rows: int | None) -> Iterator[pa.Table]:
    """The rows of each table in slices of `rows` at most; a table without rows as it is."""
    for table in tables:
        if rows is None or table.num_rows <= rows:
            yield table
            continue
        for start in range(0, table.num_rows, rows):
            yield table.slice(start, rows)
