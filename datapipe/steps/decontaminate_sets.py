"""Files of evaluation sets → their items: the texts that training data must not hold.

What enters: local files of JSON lines, CSV, TSV, Parquet or plain text, gzipped or not. What leaves: texts, each with
the file, row and column it stands in. Invariant: an item is one string of one row (of plain text: one line), so a
question and its answer are two items; rows are numbered from 1 as they stand in the file.

The format is that of the file's name; where the name says nothing (a copy named after its checksum), of its content:
Parquet by its magic bytes, JSON lines by the first "{", else plain text.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FORMATS: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "text",
}


@final
@dataclass(frozen=True, slots=True)
class Item:
    """One text of an evaluation set: what it is, and where it stands (`row` from 1; `column` "" in plain text)."""

    text: str
    file: str
    row: int
    column: str

    @property
    def label(self) -> str:
        """As a report names it: "gsm8k.jsonl row 17 (question)"."""
        return f"{self.file} row {self.row}" + (f" ({self.column})" if self.column else "")


def read_items(content: bytes, name: str, columns: Sequence[str] = ()) -> Iterator[Item]:
    """The items of one file.

    Args:
        content: the file's bytes.
        name: its name, for the format and for reports.
        columns: columns (keys of JSON objects) to read; none: every one that holds text. Of a list of texts, or an
            object within an object, each text is an item.

    Raises:
        ConfigError: the content is not what its format is, or has none of the columns.
    """
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise _unreadable(name, f"broken gzip: {error}") from None
    kind = _format(content, name)
    if kind == "text":
        for row, line in enumerate(_decoded(content, name).split("\n"), 1):
            yield Item(line, name, row, "")
        return
    seen: set[str] = set()
    rows = {"parquet": _parquet, "jsonl": _jsonl, "csv": _csv, "tsv": _tsv}[kind](content, name)
    found = False
    for row, values in rows:
        seen.update(values)
        for column in columns or values:
            if column in values:
                found = True
                for text in _texts(values[column]):
                    yield Item(text, name, row, column)
    if columns and not found:
        raise ConfigError(
            f"decontaminate.columns: {name} has none of {', '.join(columns)}",
            expected=f"some of {', '.join(sorted(seen)) or 'none: the file is empty'}",
            fix="name the columns that hold the texts, or give files with other columns a step of their own",
        )


def read_content(path: str) -> bytes:
    """The bytes of a file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"decontaminate.files: {path}: {error.strerror}", expected="a file of evaluation items"
        ) from None


def _format(content: bytes, name: str) -> str:
    path = PurePath(name.lower().removesuffix(".gz"))
    if path.suffix in FORMATS:
        return FORMATS[path.suffix]
    if content[:4] == b"PAR1":
        return "parquet"
    return "jsonl" if content[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else "text"


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable(name, f"not UTF-8 (byte {error.start})") from None


def _jsonl(content: bytes, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for row, line in enumerate(_decoded(content, name).split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _unreadable(name, f"line {row} is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise _unreadable(name, f"line {row} is a {type(values).__name__}, not an object")
        yield row, values


def _csv(content: bytes, name: str, delimiter: str = ",") -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(_decoded(content, name), newline=""), delimiter=delimiter, strict=True)
    try:
        for row, values in enumerate(reader, 1):
            # A field too many comes under None.
            yield row, {column: value for column, value in values.items() if column is not None}
    except csv.Error as error:
        raise _unreadable(name, f"line {reader.line_num}: {error}") from None


def _tsv(content: bytes, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    return _csv(content, name, "\t")


def _parquet(content: bytes, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        batches: Iterable[Any] = pq.ParquetFile(pa.BufferReader(content)).iter_batches(batch_size=1024)
        row = 0
        for batch in batches:
            for values in batch.to_pylist():
                row += 1
                yield row, values
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(name, f"no readable Parquet: {error}") from None


def _texts(value: Any) -> Iterator[str]:
    """Every string in a value: itself, or those of a list or an object."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)


def _unreadable(name: str, what: str) -> ConfigError:
    return ConfigError(
        f"decontaminate.files: {name}: {what}",
        expected="JSON lines, CSV, TSV, Parquet or UTF-8 text, as the name ends",
        fix="mend the file, or say by `names` what it is: [set.jsonl]",
    )
