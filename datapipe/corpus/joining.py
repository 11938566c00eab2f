"""Small batches enter, larger ones leave: files of one document each would else cost a pass of every step apiece.

Invariant: rows and quarantined rows come out once and in order; a batch holds at most the bytes asked for and one
batch more; batches of unlike columns (raw bytes beside text) are not joined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datapipe.corpus.piece import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def joined(batches: Iterable[Batch], *, max_bytes: int = 8 << 20) -> Iterator[Batch]:
    """The same rows in fewer batches.

    Args:
        batches: of one piece, or of several in a row: `chain.from_iterable(read_piece(p) for p in split.pieces)`.
        max_bytes: a batch is given out once its tables hold so many bytes.
    """
    held: list[Batch] = []
    size = 0
    for batch in batches:
        if held and batch.table.num_rows and _unlike(held, batch):
            yield _join(held)
            held, size = [], 0
        held.append(batch)
        size += batch.table.nbytes
        if size >= max_bytes:
            yield _join(held)
            held, size = [], 0
    if held:
        yield _join(held)


def _unlike(held: list[Batch], batch: Batch) -> bool:
    first = next((other for other in held if other.table.num_rows), None)
    return first is not None and not first.table.schema.equals(batch.table.schema)


def _join(held: list[Batch]) -> Batch:
    import pyarrow as pa

    if len(held) == 1:
        return held[0]
    # Of a batch of quarantined rows alone the table says nothing: a lost file has no columns to compare.
    tables = [batch.table for batch in held if batch.table.num_rows] or [held[0].table]
    return Batch(
        table=pa.concat_tables(tables).combine_chunks(),
        quarantined=tuple(row for batch in held for row in batch.quarantined),
    )
