"""Whole files of pictures or sound: one file, one row, its bytes as they are.

What enters: a piece that is such a file. What leaves: one batch of one row (`media_rows`). Its label is the field
`label` of the file of labels that lies beside it or above it (`labels`), else the name of the folder that it lies in;
null where it lies in none. The position in its row id is 0.

Invariant: a file gives one row or one quarantined row; an empty file is a row of no bytes, which a later rule drops
with its reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datapipe.corpus.file_fault import FileFault
from datapipe.corpus.labels import labels_of
from datapipe.corpus.media_rows import MediaRows
from datapipe.corpus.reasons import NO_COLUMNS, ROW_TOO_LARGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.corpus.options import ReadOptions
    from datapipe.corpus.piece import Batch, Piece
    from datapipe.storage import Store


def read_media_file(store: Store, piece: Piece, options: ReadOptions) -> Iterator[Batch]:
    """The file as one row."""
    file = piece.file
    if options.media is None:
        raise FileFault(NO_COLUMNS, f"a file of format {file.format}, and rows of text or of a table are read")
    rows = MediaRows(options, file.name)
    path = _clean(file.path)
    if file.size > options.max_row_bytes:
        rows.quarantine(0, ROW_TOO_LARGE, f"{file.size:,} bytes, more than {options.max_row_bytes:,}", path)
    else:
        found = labels_of(store, file.labels, file.path, options) if file.labels is not None else None
        label = folder_of(path)
        if found is not None and "label" in found:
            label = found["label"] or None
        rows.add(0, store.read(file.path), path, label, found)
    yield rows.take()


def folder_of(path: str) -> str | None:
    """The name of the folder that a file lies in, below the input; None where it lies in the input itself."""
    return path.rpartition("/")[0].rpartition("/")[2] or None


def _clean(path: str) -> str:
    """File names need not be Unicode; values of a column do."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
