"""How rows are read: the column that holds the text, the row's id, what is carried along, and the bounds in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

RESERVED: Final = ("row_id", "media_type", "text", "raw", "bad_bytes")
"""Columns that a batch of documents has anyway; of a table, `row_id` alone."""
MEDIA: Final = ("image", "audio")
"""What a row may hold as encoded bytes, under the name of the medium."""
MEDIA_COLUMNS: Final = ("path", "label")
"""Columns that every row of media has."""
ALL: Final = ("*",)
"""All the columns that a file has."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options of `read_piece`.

    Attributes:
        text_column: the field or column that holds the document, in formats that have fields; None: rows are records
            of a table, and a batch has `row_id` and `columns`, nothing else.
        id_column: the field whose value is the row id, as a string; None: "<file name>:<position>". Formats without
            fields (text, HTML) keep the latter.
        columns: further fields to carry. From JSON and CSV they come as large_string, values other than strings as
            JSON text, so that every batch has the same types; from Parquet and Arrow with the type they have there.
            What a row lacks is null; a file that has none of them is quarantined "no_columns". ("*",), without a text
            column: all that the file has (of JSON, all that the rows of a batch have), but for `row_id` and names that
            begin with "__"; a name that a file has twice names no column.
        media: "image" or "audio": rows are pictures or sounds (`media_rows`), from files of their own, tar files and
            columns of Parquet and Arrow; without a text column. `columns` may then be empty.
        max_batch_bytes: a batch is given out once its rows hold so many bytes (the last row may exceed it).
        max_row_bytes: a longer row is quarantined "row_too_large" and never held in memory.
        media_type: of rows of formats with fields; "text/html" where the text column holds HTML.
    """

    text_column: str | None = "text"
    id_column: str | None = None
    columns: tuple[str, ...] = ()
    media: str | None = None
    max_batch_bytes: int = 8 << 20
    max_row_bytes: int = 64 << 20
    media_type: str = "text/plain"

    def __post_init__(self) -> None:
        if self.text_column == "" or self.id_column == "":
            raise ConfigError("a column without a name", expected="text_column and id_column to name columns")
        columns: object = self.columns
        if not isinstance(columns, tuple) or not all(isinstance(name, str) and name for name in columns):
            raise ConfigError(f"columns={columns!r}", expected='a tuple of names, such as ("url", "date")')
        if self.media is not None and (self.media not in MEDIA or self.text_column is not None):
            raise ConfigError(
                f"media={self.media!r}, text_column={self.text_column!r}",
                expected=f"one of {', '.join(MEDIA)}, and no text column",
            )
        reserved = RESERVED if self.text_column is not None else RESERVED[:1]
        bare = self.text_column is None and self.media is None
        if bare > bool(self.columns) or (self.text_column is not None and "*" in self.columns):
            raise ConfigError(
                f"text_column={self.text_column!r}, columns={self.columns!r}",
                expected='a text column; or none, and the columns of a table (("*",) for all)',
            )
        clash = [name for name in self.columns if name in reserved]
        if clash or len(set(self.columns)) < len(self.columns):
            raise ConfigError(
                f"columns={self.columns!r}",
                expected=f"each name once, and none of {', '.join(reserved)}, which every batch has",
            )
        if "*" in self.columns and self.columns != ALL:
            raise ConfigError(f"columns={self.columns!r}", expected='names, or "*" alone')
        for name in ("max_batch_bytes", "max_row_bytes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name}={value!r}", expected="a number of bytes, at least 1")

    def named(self, names: Iterable[str]) -> tuple[str, ...]:
        """Of the names that a file has, each once, those to read, with ("*",) in the file's order."""
        if self.columns != ALL:
            return self.columns
        return tuple(name for name in names if name and name != "row_id" and not name.startswith("__"))
