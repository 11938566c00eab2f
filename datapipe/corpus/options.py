"""How rows are read: the column that holds the text, the row's id, what is carried along, and the bounds in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from datapipe.errors import ConfigError

RESERVED: Final = ("row_id", "media_type", "text", "raw", "bad_bytes")
"""Columns that a batch has anyway."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options of `read_piece`.

    Attributes:
        text_column: the field or column that holds the document, in formats that have fields.
        id_column: the field whose value is the row id, as a string; None: "<file name>:<position>". Formats without
            fields (text, HTML) keep the latter.
        columns: further fields to carry. From JSON and CSV they come as large_string, values other than strings as
            JSON text, so that every batch has the same types; from Parquet and Arrow with the type they have there.
            What a row lacks is null.
        max_batch_bytes: a batch is given out once its rows hold so many bytes (the last row may exceed it).
        max_row_bytes: a longer row is quarantined "row_too_large" and never held in memory.
        media_type: of rows of formats with fields; "text/html" where the text column holds HTML.
    """

    text_column: str = "text"
    id_column: str | None = None
    columns: tuple[str, ...] = ()
    max_batch_bytes: int = 8 << 20
    max_row_bytes: int = 64 << 20
    media_type: str = "text/plain"

    def __post_init__(self) -> None:
        if not self.text_column or self.id_column == "":
            raise ConfigError("a column without a name", expected="text_column and id_column to name columns")
        columns: object = self.columns
        if not isinstance(columns, tuple) or not all(isinstance(name, str) and name for name in columns):
            raise ConfigError(f"columns={columns!r}", expected='a tuple of names, such as ("url", "date")')
        clash = [name for name in self.columns if name in RESERVED]
        if clash or len(set(self.columns)) < len(self.columns):
            raise ConfigError(
                f"columns={self.columns!r}",
                expected=f"each name once, and none of {', '.join(RESERVED)}, which every batch has",
            )
        for name in ("max_batch_bytes", "max_row_bytes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name}={value!r}", expected="a number of bytes, at least 1")
