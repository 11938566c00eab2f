"""What a corpus is made of: source files, pieces of them, and the batches read from a piece.

A *source file* is one input object. A *piece* is a part of it that one worker reads: a byte range, a range of row
groups, or all of it. A *split* is the pieces of one task. All three are plain frozen data: they are printed, hashed
and sent to workers, never the rows.

Invariant: the union of a file's pieces gives each of its rows once, with the same row id however it was cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """A file of labels (`labels`), in the same root as the files that it is about."""

    path: str
    etag: str


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One input file.

    `root` and `path` open it (`open_store(root)`, then `path`); `name` is what row ids call it: its path relative to
    the input it was found under, prefixed by that input's own name, so that it is the same on every machine. `root`
    may hold a signed query: it is not shown, and belongs in no manifest, log or digest; `name`, `size` and `etag` do.
    `labels` is the file of labels that is nearest to a picture or a sound.
    """

    root: str = field(repr=False)
    path: str
    name: str
    format: str
    size: int
    etag: str
    labels: LabelFile | None = None


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Part of a source file.

    Bytes [start, end) of uncompressed JSON lines, row groups [start, end) of a columnar file, or all of it (0, None).
    """

    file: SourceFile
    start: int = 0
    end: int | None = None


@dataclass(frozen=True, kw_only=True)
class Split:
    """The pieces that one task reads, in order; `bytes` is their stored size."""

    index: int
    pieces: tuple[Piece, ...]
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A row that could not be read: it counts as one row in, and one quarantined for `reason`.

    `excerpt` is at most 200 characters of what was there.
    """

    row_id: str
    reason: str
    detail: str
    excerpt: str = ""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of one piece, bounded in bytes.

    `table` has `row_id: string` ("<file name>:<position>"; the position is a byte offset in the decompressed stream
    for line formats, a row number for columnar ones, CSV and .json, 0 for one-document files) and `media_type: string`
    then either `raw: large_binary` (undecoded documents) or `text: large_string` with `bad_bytes: int32` (bytes that
    were not valid UTF-8 and were replaced by U+FFFD), then whatever further columns the options asked for. Of pictures
    and sounds: `image` or `audio: large_binary`, `path`, `label` (`media_rows`), and further columns.
    """

    table: pa.Table
    quarantined: tuple[Quarantined, ...] = field(default=())
