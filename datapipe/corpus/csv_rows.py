"""Comma- and tab-separated values: a whole file enters, its rows leave.

The first record names the columns. Quoting is RFC 4180's (a quoted field may hold separators, quotes and newlines). A
row's position is its number, counted from 0 after the header, malformed ones included, blank lines not.
Invariant: a record with another number of fields, or with broken quotes, costs itself alone; one that grows beyond the
bound (a quote that nobody closed) is given up there, and reading goes on with the next line.
"""

from __future__ import annotations

import csv
import threading
from typing import TYPE_CHECKING, Final, final

from datapipe.corpus.byte_stream import ByteStream, open_stream
from datapipe.corpus.file_fault import FileFault
from datapipe.corpus.in_batches import in_batches
from datapipe.corpus.jsonl import lines_of
from datapipe.corpus.options import ALL
from datapipe.corpus.reasons import MALFORMED_ROW, MISSING_ID, NO_COLUMNS, NO_TEXT_COLUMN, ROW_TOO_LARGE
from datapipe.corpus.rows import Rows
from datapipe.corpus.utf8 import decode_counting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.corpus.options import ReadOptions
    from datapipe.corpus.piece import Batch, Piece
    from datapipe.storage import Store

_FIELD_LIMIT: Final = (1 << 31) - 1  # the bound is ours, per record; csv's own, per field, is process-wide
_limit_lock = threading.Lock()


def read_csv(store: Store, piece: Piece, options: ReadOptions) -> Iterator[Batch]:
    """The rows of a whole .csv or .tsv file."""
    with _limit_lock:
        if csv.field_size_limit() < _FIELD_LIMIT:
            csv.field_size_limit(_FIELD_LIMIT)
    rows = Rows(options, piece.file.name, media_type=options.media_type)
    delimiter = "\t" if piece.file.format == "tsv" else ","
    with open_stream(store, piece.file.path) as stream:
        yield from in_batches(rows, _records(stream, delimiter, rows, options))


@final
class _TooLargeError(Exception):
    """A record has grown beyond the bound."""


@final
class _Lines:
    """Text lines for `csv.reader`, and what the record at hand has cost so far."""

    def __init__(self, stream: ByteStream, max_bytes: int) -> None:
        self._lines = lines_of(stream, max_bytes=max_bytes)
        self._max = max_bytes
        self.size = 0
        self.bad_bytes = 0
        self.first = ""

    def begin(self) -> None:
        """A new record begins with the next line."""
        self.size = self.bad_bytes = 0
        self.first = ""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        offset, line, size = next(self._lines)
        text, bad = decode_counting(line)
        if offset == 0:
            text = text.removeprefix("\ufeff")
        self.first = self.first or text
        self.size += size
        self.bad_bytes += bad
        if self.size > self._max:
            raise _TooLargeError
        return text


def _records(stream: ByteStream, delimiter: str, rows: Rows, options: ReadOptions) -> Iterator[None]:
    """Add every record to `rows`, stopping after each."""
    lines = _Lines(stream, options.max_row_bytes)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    number = 0
    while True:
        lines.begin()
        try:
            record = next(reader)
        except StopIteration:
            return
        except _TooLargeError:
            detail = f"a record of more than {options.max_row_bytes:,} bytes; is a quote never closed?"
            rows.quarantine(rows.row_id(number), ROW_TOO_LARGE, detail, lines.first)
        except csv.Error as error:
            rows.quarantine(rows.row_id(number), MALFORMED_ROW, str(error), lines.first)
        else:
            if not record:
                continue
            if header is None:
                _check_header(record, options)
                # A name that is repeated names no one column: it is lacking, as in Parquet.
                header = [name if record.count(name) == 1 else "" for name in record]
                continue
            _add(rows, header, record, number, lines, options)
        if header is None:
            raise FileFault(NO_TEXT_COLUMN, "its first line, which names the columns, cannot be read")
        number += 1
        yield None


def _check_header(header: list[str], options: ReadOptions) -> None:
    if options.text_column is None:
        found = options.named(name for name in header if header.count(name) == 1)
        if not any(header.count(name) == 1 for name in found):
            raise FileFault(NO_COLUMNS, f"none of the columns asked for; it has {', '.join(map(repr, header[:12]))}")
        return
    count = header.count(options.text_column)
    if count != 1:
        names = ", ".join(repr(name) for name in header[:12])
        few = "no" if count == 0 else f"{count} columns called"
        raise FileFault(NO_TEXT_COLUMN, f"{few} {options.text_column!r}; it has {names}")


def _add(rows: Rows, header: list[str], record: list[str], number: int, lines: _Lines, options: ReadOptions) -> None:
    row_id = rows.row_id(number)
    if len(record) != len(header):
        detail = f"{len(record)} fields where the header names {len(header)}"
        rows.quarantine(row_id, MALFORMED_ROW, detail, lines.first)
        return
    fields = dict(zip(header, record, strict=True))
    if options.id_column is not None:
        row_id = fields.get(options.id_column, "")
        if not row_id:
            rows.quarantine(rows.row_id(number), MISSING_ID, f"no value for {options.id_column!r}", lines.first)
            return
    more = fields if options.columns == ALL else [fields.get(name) for name in options.columns]
    text = None if options.text_column is None else fields[options.text_column]
    rows.add(row_id, text, lines.size, bad_bytes=lines.bad_bytes, more=more)
