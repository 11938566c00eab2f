"""JSON lines: a byte range of a file enters, its rows leave.

Invariant: a piece owns every line that *starts* in its range, so the pieces of any cut give each line once. Row ids are
the byte offset of the line's start in the decompressed stream. Blank lines are no rows. A line longer than the bound is
passed over without being held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datapipe.corpus.byte_stream import BLOCK, ByteStream, open_stream
from datapipe.corpus.file_fault import FileFault
from datapipe.corpus.in_batches import in_batches
from datapipe.corpus.json_row import add_json
from datapipe.corpus.reasons import ROW_TOO_LARGE
from datapipe.corpus.rows import EXCERPT, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.corpus.options import ReadOptions
    from datapipe.corpus.piece import Batch, Piece
    from datapipe.storage import Store

_BOM: Final = b"\xef\xbb\xbf"


def read_jsonl(store: Store, piece: Piece, options: ReadOptions) -> Iterator[Batch]:
    """The rows of the lines that start in [piece.start, piece.end)."""
    rows = Rows(options, piece.file.name, media_type=options.media_type)
    # From the byte before: if that is a newline, the piece's first byte starts a line.
    with open_stream(store, piece.file.path, start=max(0, piece.start - 1)) as stream:
        lines = lines_of(stream, start=piece.start, end=piece.end, max_bytes=options.max_row_bytes)
        yield from in_batches(rows, _added(lines, rows, options))


def _added(lines: Iterator[tuple[int, bytes, int]], rows: Rows, options: ReadOptions) -> Iterator[None]:
    """Adds the row of each line."""
    for position, line, size in lines:
        if size > options.max_row_bytes:
            detail = f"a line of {size:,} bytes; at most {options.max_row_bytes:,} are read"
            rows.quarantine(rows.row_id(position), ROW_TOO_LARGE, detail, line)
        elif line := (line.removeprefix(_BOM) if position == 0 else line).strip():
            add_json(rows, line, position, options)
        yield


def lines_of(
    stream: ByteStream, *, start: int = 0, end: int | None = None, max_bytes: int
) -> Iterator[tuple[int, bytes, int]]:
    """(offset, line with its newline, its length) of the lines that start in [start, end).

    Of a line longer than `max_bytes` only the beginning is given. The stream stands at `start`, or one byte before it
    where `start` is not 0. Memory: one block and one line of at most `max_bytes`.
    """
    at = start
    if start:
        found = _after_newline(stream, end)
        if found is None:
            return
        at, block = found
    else:
        block = stream.read(BLOCK)
    held: list[bytes] = []  # the beginning of a line that earlier blocks held
    held_bytes = 0
    try:
        while block:
            lines = block.splitlines(keepends=True) if b"\r" not in block else _split(block)
            for line in lines:
                if not held and end is not None and at >= end:
                    return
                size = held_bytes + len(line)
                if line[-1] == 0x0A:
                    whole = line if not held else b"".join([*held, line])
                    yield at, whole if size <= max_bytes else whole[: EXCERPT * 4], size
                    at += size
                    held, held_bytes = [], 0
                else:
                    if size <= max_bytes:
                        held.append(line)
                    elif held_bytes <= max_bytes:  # it has just become too long: keep what an excerpt needs
                        held = [b"".join([*held, line])[: EXCERPT * 4]]
                    held_bytes = size
            block = stream.read(BLOCK)
    except FileFault as fault:
        fault.excerpt = fault.excerpt or b"".join(held)[: EXCERPT * 4].decode("utf-8", "replace")[:EXCERPT]
        raise
    if held and (end is None or at < end):
        yield at, b"".join(held)[: max_bytes if held_bytes <= max_bytes else EXCERPT * 4], held_bytes


def _split(block: bytes) -> list[bytes]:
    """Lines that end at newlines alone: `splitlines` would also cut at a carriage return."""
    parts = block.split(b"\n")
    lines = [part + b"\n" for part in parts[:-1]]
    return [*lines, parts[-1]] if parts[-1] else lines


def _after_newline(stream: ByteStream, end: int | None) -> tuple[int, bytes] | None:
    """(offset, rest of the block) after the first newline; None if no line starts before `end`."""
    while end is None or stream.position < end:
        before = stream.position
        block = stream.read(BLOCK)
        if not block:
            return None
        found = block.find(b"\n")
        if found >= 0:
            at = before + found + 1
            if end is not None and at >= end:
                return None
            return at, block[found + 1 :] or stream.read(BLOCK)
    return None
