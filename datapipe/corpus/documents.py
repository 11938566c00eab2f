"""One file, one document: text, source code, HTML. The bytes leave as they are; decoding them is a step.

Invariant: a file gives one row or one quarantined row. An empty file is a document of no bytes, which a later rule
drops with its reason. The position in its row id is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datapipe.corpus.byte_stream import open_stream
from datapipe.corpus.file_fault import FileFault
from datapipe.corpus.reasons import NO_COLUMNS, ROW_TOO_LARGE, TRUNCATED_FILE
from datapipe.corpus.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.corpus.options import ReadOptions
    from datapipe.corpus.piece import Batch, Piece
    from datapipe.storage import Store


def read_document(store: Store, piece: Piece, options: ReadOptions) -> Iterator[Batch]:
    """The file as one row: `raw` is its bytes, decompressed."""
    if options.text_column is None:
        raise FileFault(NO_COLUMNS, f"a table is read, and a file of format {piece.file.format} has no columns")
    media_type = "text/html" if piece.file.format == "html" else "text/plain"
    rows = Rows(options, piece.file.name, media_type=media_type, raw=True)
    parts: list[bytes] = []
    size = 0
    with open_stream(store, piece.file.path) as stream:
        try:
            while size <= options.max_row_bytes and (block := stream.read()):
                parts.append(block)
                size += len(block)
        except FileFault as fault:
            # Half a document is none: what was read of it is shown, not kept.
            fault.position = 0
            fault.excerpt = b"".join(parts[:1])[:800].decode("utf-8", "replace")[:200]
            if fault.reason == TRUNCATED_FILE:
                fault.detail += f" (after {size:,} bytes)"
            raise
    if size > options.max_row_bytes:
        detail = f"a document of more than {options.max_row_bytes:,} bytes"
        rows.quarantine(rows.row_id(0), ROW_TOO_LARGE, detail, parts[0])
    else:
        rows.add(rows.row_id(0), b"".join(parts), size)
    yield rows.take()
