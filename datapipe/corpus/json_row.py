"""One JSON value enters; a row of text, or the reason why it is none, leaves.

orjson first; what it refuses is tried again as what people write all the same: NaN, bytes that are not UTF-8, halves
of surrogate pairs. Integers are exact whatever their length: two ids never become one.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from datapipe.corpus.options import ALL
from datapipe.corpus.reasons import INVALID_JSON, MISSING_ID, MISSING_TEXT, NOT_AN_OBJECT, TEXT_NOT_STRING
from datapipe.corpus.utf8 import decode_counting, without_surrogates

if TYPE_CHECKING:
    from datapipe.corpus.options import ReadOptions
    from datapipe.corpus.rows import Rows

# orjson makes a float of an integer beyond 64 bits; the smallest of those has 19 digits.
_LONG_INTEGER: Final = re.compile(rb"[0-9]{19}")


def add_json(rows: Rows, data: bytes, position: int, options: ReadOptions) -> None:
    """Add the row that a JSON object spells, or quarantine it."""
    import orjson

    bad = 0
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        text, bad = decode_counting(data)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            rows.quarantine(rows.row_id(position), INVALID_JSON, str(error), data)
            return
    if _may_be_rounded(value, options) and _LONG_INTEGER.search(data):
        try:
            value = json.loads(decode_counting(data)[0])
        except (ValueError, RecursionError) as error:
            rows.quarantine(rows.row_id(position), INVALID_JSON, str(error), data)
            return
    if not isinstance(value, dict):
        rows.quarantine(rows.row_id(position), NOT_AN_OBJECT, f"a JSON {_kind(value)}", data)
        return
    add_object(rows, value, position, options, size=len(data), bad_bytes=bad, excerpt=data)


def add_object(
    rows: Rows,
    value: dict[str, Any],
    position: int,
    options: ReadOptions,
    *,
    size: int,
    bad_bytes: int = 0,
    excerpt: bytes = b"",
) -> None:
    """Add the row of an object that was parsed already."""
    row_id = rows.row_id(position)
    if options.id_column is not None:
        own = value.get(options.id_column)
        if own is None:
            rows.quarantine(row_id, MISSING_ID, f"no value for {options.id_column!r}", excerpt)
            return
        row_id = without_surrogates(as_text(own))[0]
    more: Any
    if options.columns == ALL:
        more = {without_surrogates(name)[0]: _carried(each) for name, each in value.items()}
    else:
        more = [_carried(value.get(name)) for name in options.columns]
    if options.text_column is None:
        rows.add(row_id, None, size, more=more)
        return
    text = value.get(options.text_column)
    if text is None:
        null = options.text_column in value
        detail = f"{options.text_column!r} is null" if null else f"no {options.text_column!r}; it has {_names(value)}"
        rows.quarantine(row_id, MISSING_TEXT, detail, excerpt)
        return
    if not isinstance(text, str):
        rows.quarantine(row_id, TEXT_NOT_STRING, f"{options.text_column!r} is a {_kind(text)}", excerpt)
        return
    text, halves = without_surrogates(text)
    rows.add(row_id, text, size, bad_bytes=bad_bytes + halves, more=more)


def _may_be_rounded(value: Any, options: ReadOptions) -> bool:
    """Whether a value that is kept is, or may hold, a float where the file has an integer."""
    if not isinstance(value, dict) or not (options.id_column or options.columns):
        return False
    names = value if options.columns == ALL else (options.id_column, *options.columns)
    return any(isinstance(value.get(name), float | list | dict) for name in names)


def as_text(value: Any) -> str:
    """A string as it is, any other JSON value as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _carried(value: Any) -> str | None:
    return None if value is None else without_surrogates(as_text(value))[0]


def _names(value: dict[str, Any]) -> str:
    return ", ".join(repr(name) for name in list(value)[:8]) or "nothing"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object" if isinstance(value, dict) else "number"
