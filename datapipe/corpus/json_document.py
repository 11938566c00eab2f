"""A .json file: one array of objects, one object, or several one after another; its rows leave one by one.

Invariant: memory is bounded by the longest value, not by the file: values are cut out by their brackets as the bytes
come, then parsed. A row's position is its number in the file. A value that is no JSON costs itself alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, final

from datapipe.corpus.byte_stream import BLOCK, ByteStream, open_stream
from datapipe.corpus.file_fault import FileFault
from datapipe.corpus.in_batches import in_batches
from datapipe.corpus.json_row import add_json
from datapipe.corpus.reasons import DAMAGED_FILE, ROW_TOO_LARGE, TRUNCATED_FILE
from datapipe.corpus.rows import EXCERPT, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.corpus.options import ReadOptions
    from datapipe.corpus.piece import Batch, Piece
    from datapipe.storage import Store

_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
# Up to what matters next, in C: structure outside of strings, the end of one inside.
_OUTSIDE: Final = re.compile(rb'[^"{}\[\],]*+')
_INSIDE: Final = re.compile(rb'(?:[^"\\]++|\\[\s\S])*+')
_BOM: Final = b"\xef\xbb\xbf"


def read_json(store: Store, piece: Piece, options: ReadOptions) -> Iterator[Batch]:
    """The rows of a whole .json file."""
    rows = Rows(options, piece.file.name, media_type=options.media_type)
    with open_stream(store, piece.file.path) as stream:
        yield from in_batches(rows, _added(stream, rows, options))


def _added(stream: ByteStream, rows: Rows, options: ReadOptions) -> Iterator[None]:
    """Adds the row of each value."""
    for number, (value, size) in enumerate(values_of(stream, max_bytes=options.max_row_bytes)):
        if size > options.max_row_bytes:
            detail = f"a value of {size:,} bytes; at most {options.max_row_bytes:,} are read"
            rows.quarantine(rows.row_id(number), ROW_TOO_LARGE, detail, value)
        else:
            add_json(rows, value, number, options)
        yield


def values_of(stream: ByteStream, *, max_bytes: int) -> Iterator[tuple[bytes, int]]:
    """(JSON value, its length) of each element of the array that a file is, or of each value that follows another.

    Of a value longer than `max_bytes` only the beginning is given.

    Raises:
        FileFault: brackets do not match ("damaged_file"), or are still open at the end ("truncated_file").
    """
    window = _Window(stream)
    while len(window.buffer) < len(_BOM) and window.fetch():
        pass  # a store may give as little as a byte at a time
    if window.buffer.startswith(_BOM):
        window.at = len(_BOM)
    window.skip_space()
    if not window.more():
        return
    in_array = window.byte() == b"["
    if in_array:
        window.at += 1
    number = 0
    while True:
        window.skip_space()
        if not window.more():
            if in_array:
                raise FileFault(TRUNCATED_FILE, "the array that the file is never ends", position=number)
            return
        byte = window.byte()
        if byte == b"," or (in_array and byte == b"]"):
            window.at += 1
            if byte == b"]":
                break
            continue
        yield _value(window, max_bytes, number)
        number += 1
    window.skip_space()
    if window.more():
        raise FileFault(DAMAGED_FILE, "something follows the array that the file is", position=number)


def _value(window: _Window, max_bytes: int, number: int) -> tuple[bytes, int]:
    """One value, from its first byte to its last bracket, or to the comma or space that ends a bare one."""
    window.begin(max_bytes)
    depth = 0
    inside = False
    while True:
        window.pass_over(_INSIDE if inside else _OUTSIDE)
        if not window.more():
            if depth or inside:
                fault = FileFault(TRUNCATED_FILE, "a value never ends", position=number)
                fault.excerpt = window.end()[0][: EXCERPT * 4].decode("utf-8", "replace")[:EXCERPT]
                raise fault
            return window.end()
        byte = window.byte()
        if inside:
            if byte == b"\\" and not window.fetch():  # an escape that is cut by the end of the block, or of the file
                window.at += 1
            inside = byte != b'"' and inside
            window.at += byte == b'"'
        elif byte == b'"':
            inside = True
            window.at += 1
        elif byte in b"{[":
            depth += 1
            window.at += 1
        elif byte in b"}]":
            if depth == 0:
                if window.length:  # a bare value in front of the array's end
                    return window.end()
                raise FileFault(DAMAGED_FILE, f"a {byte.decode()} that nothing opened", position=number)
            depth -= 1
            window.at += 1
            if depth == 0:
                return window.end()
        elif depth == 0:  # a comma
            return window.end()
        else:
            window.at += 1


@final
class _Window:
    """The block at hand, and what earlier blocks held of the value at hand."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self.buffer = stream.read(BLOCK)
        self.at = 0
        self._from: int | None = None  # where in the buffer the value at hand began; None between values
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._max = 0

    def more(self) -> bool:
        """Whether a byte stands at hand, fetching if need be."""
        return self.at < len(self.buffer) or self.fetch()

    def fetch(self) -> bool:
        """Append a block; what lies before the value at hand is let go. False at the end of the file."""
        block = self._stream.read(BLOCK)
        if not block:
            return False
        if self._from is not None:
            done = self.buffer[self._from : self.at]
            if self._held_bytes <= self._max:  # of one that is too long, its beginning is enough
                self._held.append(done)
            self._held_bytes += len(done)
            self._from = 0
        self.buffer = self.buffer[self.at :] + block
        self.at = 0
        return True

    def byte(self) -> bytes:
        """The byte at hand."""
        return self.buffer[self.at : self.at + 1]

    def skip_space(self) -> None:
        """Go on to the first byte that is no white space."""
        while self.more():
            self.at = _SPACE.match(self.buffer, self.at).end()  # type: ignore[union-attr]  # (it matches nothing, too)
            if self.at < len(self.buffer):
                return

    def pass_over(self, pattern: re.Pattern[bytes]) -> None:
        """Go on to the first byte that `pattern` does not take; it may be in a later block."""
        while self.more():
            self.at = pattern.match(self.buffer, self.at).end()  # type: ignore[union-attr]  # (the same)
            if self.at < len(self.buffer):
                return

    def begin(self, max_bytes: int) -> None:
        """The value at hand begins here."""
        self._from = self.at
        self._held, self._held_bytes, self._max = [], 0, max_bytes

    @property
    def length(self) -> int:
        """Bytes of the value at hand so far."""
        return self._held_bytes + self.at - (self.at if self._from is None else self._from)

    def end(self) -> tuple[bytes, int]:
        """The value at hand and its length; of one that is too long, its beginning."""
        size = self.length
        parts = [*self._held, self.buffer[self._from : self.at]]
        value = b"".join(parts) if size <= self._max else b"".join(part[: EXCERPT * 4] for part in parts[:2])
        self._from = None
        self._held, self._held_bytes = [], 0
        return value, size
