"""decode: bytes become text. `raw: large_binary` enters; `text: large_string` and `bad_bytes: int32` leave.

Invariant: a row that is valid UTF-8 comes out with exactly its characters (less a byte order mark at its start);
every byte that is not is counted in `bad_bytes` and replaced by U+FFFD, and a row of which too many bytes are bad, or
NUL, is no text: it is quarantined, not repaired. A table that has `text` already keeps it.

A row that is not UTF-8 is read in the encoding that it declares (`charsets`), if it does.
"""

from __future__ import annotations

import codecs
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from datapipe.errors import ConfigError
from datapipe.steps.charsets import declared_codec
from datapipe.steps.columns import TEXT, column, mark, set_column
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

NOT_TEXT: Final = "not_text"
BAD_BYTES: Final = "bad_bytes"

# The longer mark first: UTF-32-LE begins with the mark of UTF-16-LE.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """Options of decode.

    Attributes:
        errors: "replace" keeps a row that has some bad bytes, each replaced by U+FFFD; "quarantine" keeps none.
        max_bad_ratio: bad bytes and NULs as a share of a row's bytes, above which the row is no text.
    """

    errors: Literal["replace", "quarantine"] = "replace"
    max_bad_ratio: float = 0.1

    def __post_init__(self) -> None:
        in_range("decode.max_bad_ratio", self.max_bad_ratio, 0, 1)


def decode(table: pa.Table, keys: Keys, *, options: DecodeOptions) -> pa.Table:
    """Bytes → text.

    Args:
        table: `raw: binary` or, decoded by the reader already, `text: string` (with or without `bad_bytes`).
        keys: not used.
        options: see DecodeOptions.

    Returns:
        The table without `raw`, with `text: large_string` and `bad_bytes: int32`; rows that are no text are marked
        quarantine "not_text", and with `errors="quarantine"` rows with bad bytes "bad_bytes". A quarantined row's text
        is what could be decoded of it.

    Raises:
        ConfigError: the table has neither column.
    """
    del keys
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if TEXT in table.column_names:
        text = column(table, TEXT, pa.large_string())
        size = pc.fill_null(pc.binary_length(text), 0).to_numpy()
        if BAD_BYTES in table.column_names:
            bad = pc.fill_null(column(table, BAD_BYTES, pa.int32()), 0).to_numpy()
        else:
            bad = np.zeros(table.num_rows, np.int32)
        if "raw" in table.column_names:
            table = table.drop_columns(["raw"])
    elif "raw" in table.column_names:
        raw = column(table, "raw", pa.large_binary())
        if raw.null_count:
            raw = pc.fill_null(raw, b"")
        size = pc.binary_length(raw).to_numpy()
        kinds = column(table, "media_type", pa.string()) if "media_type" in table.column_names else None
        text, bad = _decoded(raw, kinds)
        place = table.schema.get_field_index("raw")
        table = table.set_column(place, TEXT, text)
    else:
        raise ConfigError(
            f"there is nothing to decode; the table has {', '.join(table.column_names) or 'no column'}",
            expected="a column raw (bytes) or text",
            fix="name the text column in the reader's options",
        )
    table = set_column(table, TEXT, text)
    table = set_column(table, BAD_BYTES, pa.array(bad, pa.int32()))

    suspect = bad + _count_nul(text)
    garbage = suspect > options.max_bad_ratio * size
    if options.errors == "quarantine":
        tainted = (bad > 0) & ~garbage
    else:
        tainted = np.zeros(table.num_rows, bool)
    if not (garbage.any() or tainted.any()):
        return table
    reasons = pc.if_else(
        pa.array(garbage), NOT_TEXT, pc.if_else(pa.array(tainted), BAD_BYTES, pa.scalar(None, pa.string()))
    )
    return mark(table, reasons, quarantine=True)


def _decoded(raw: pa.ChunkedArray, kinds: pa.ChunkedArray | None) -> tuple[pa.ChunkedArray, npt.NDArray[np.int32]]:
    """Text (large_string) and bad bytes (int32) of a binary column without nulls."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    bad = np.zeros(len(raw), np.int32)
    try:
        # One validation of the whole column: the common case costs a memory scan and no copy.
        text = raw.cast(pa.large_string())
    except pa.ArrowInvalid:
        pass
    else:
        if pc.any(pc.starts_with(text, "\ufeff")).as_py():
            text = pc.replace_substring_regex(text, "\\A\ufeff", "")
        return text, bad
    rows = []
    for i, value in enumerate(raw):
        row, bad[i] = decode_bytes(value.as_py(), kinds[i].as_py() if kinds is not None else None)
        rows.append(row)
    return pa.chunked_array([pa.array(rows, pa.large_string())]), bad


def decode_bytes(data: bytes, media_type: str | None = None) -> tuple[str, int]:
    """One document's text without its byte order mark, and how many of its bytes were bad (replaced by U+FFFD).

    A byte order mark says the encoding; without one it is UTF-8, or, where it is not, what the document declares.
    """
    encoding, start = "utf-8", 0
    for mark_bytes, name in _MARKS:
        if data.startswith(mark_bytes):
            encoding, start = name, len(mark_bytes)
            break
    body = data[start:]
    try:
        return body.decode(encoding), 0
    except UnicodeDecodeError:
        if not start and (declared := declared_codec(data, media_type)) is not None:
            return _replaced(body, declared)
        # What "ignore" leaves out is exactly what is bad; U+FFFD that was really there is not.
        good = len(body.decode(encoding, "ignore").encode(encoding))
        return body.decode(encoding, "replace"), len(body) - good


def _replaced(body: bytes, codec: str) -> tuple[str, int]:
    """Text in a codec of another kind than UTF, where encoding back need not give the same bytes."""
    bad = 0

    def count(error: UnicodeError) -> tuple[str, int]:
        nonlocal bad
        assert isinstance(error, UnicodeDecodeError)
        bad += error.end - error.start
        return "\ufffd", error.end

    decoder = codecs.lookup(codec)
    name = f"datapipe-count-{threading.get_ident()}"
    codecs.register_error(name, count)
    return decoder.decode(body, name)[0], bad


def _count_nul(text: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """NUL characters per row: int64[n]. Text has none, so the usual cost is one search."""
    import numpy as np
    import pyarrow.compute as pc

    if not pc.any(pc.match_substring(text, "\0")).as_py():
        return np.zeros(len(text), np.int64)
    counts: npt.NDArray[np.int64] = pc.fill_null(pc.count_substring(text, "\0"), 0).to_numpy().astype(np.int64)
    return counts


def build(options: DecodeOptions) -> Step:
    """The step with its options bound."""
    return partial(decode, options=options)


SPEC: Final = StepSpec(
    name="decode",
    version=2,
    kind="map",
    options=DecodeOptions,
    build=build,
    summary="bytes → text; bad bytes are counted, binary garbage is quarantined",
    reasons=(NOT_TEXT, BAD_BYTES),
    gives=("text", "bad_bytes"),
)
