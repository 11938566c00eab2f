"""What a row group's statistics say of a comparison before any of its rows is read.

What enters: a Parquet column chunk's statistics, a comparison. What leaves: which of SQL's three outcomes (true, false,
null) some row may have. Invariant: an outcome that a row has is never left out. Where the statistics are missing, or
compare with the value otherwise than Arrow would (an integer beyond 2^53 with a float), all three are possible.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from datapipe.parquet_chunks import statistics_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow.parquet as pq

TRUE: Final = 1
FALSE: Final = 2
NULL: Final = 4
ANY: Final = TRUE | FALSE | NULL
_EXACT: Final = 1 << 53
"""Integers up to here are the same as floats."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What is known of one column of one row group.

    Attributes:
        low, high: no value is beyond them; None: not known. Floats may be NaN all the same.
        nulls: whether there may be nulls. values: whether there may be anything else.
    """

    low: Any = None
    high: Any = None
    nulls: bool = True
    values: bool = True


def bounds_of(chunk: pq.ColumnChunkMetaData, kind: str) -> Bounds:
    """The bounds that a Parquet column chunk's statistics give; `kind` is its column's physical type."""
    stats = statistics_of(chunk, kind)
    if stats is None:
        return Bounds()
    nulls = not stats.has_null_count or stats.null_count > 0
    values = not stats.has_null_count or stats.null_count < chunk.num_values
    try:
        low, high = (stats.min, stats.max) if stats.has_min_max else (None, None)
    except (ArithmeticError, ValueError, TypeError, NotImplementedError, pa.ArrowException):
        low = high = None  # without a Python value, or a string cut within a character
    if low != low or high != high:  # noqa: PLR0124  (NaN: a writer that did not leave them out)
        low = high = None
    return Bounds(low=low, high=high, nulls=nulls, values=values)


def outcomes(bounds: Bounds, operator: str, value: Any) -> int:
    """Which outcomes `column operator value` may have: a sum of TRUE, FALSE and NULL.

    Args:
        operator: ==, !=, <, <=, >, >=, in or not in; for the last two `value` is a list.
    """
    null = NULL if bounds.nulls else 0
    if not bounds.values:
        return NULL
    wanted = value if operator in ("in", "not in") else [value]
    low, high = bounds.low, bounds.high
    if low is None or high is None or not all(_comparable(low, high, each) for each in wanted):
        return TRUE | FALSE | null
    result = _compare(low, high, operator, wanted)
    if isinstance(low, float):  # NaN: statistics leave it out, and it is equal to nothing
        result |= TRUE if operator in ("!=", "not in") else FALSE
    return result | null


def _compare(low: Any, high: Any, operator: str, wanted: Sequence[Any]) -> int:
    if operator in ("!=", "not in"):
        return _swapped(_compare(low, high, "in", wanted))
    if operator in (">", ">="):
        return _swapped(_compare(low, high, "<=" if operator == ">" else "<", wanted))
    if operator == "<":
        return (TRUE if low < wanted[0] else 0) | (FALSE if high >= wanted[0] else 0)
    if operator == "<=":
        return (TRUE if low <= wanted[0] else 0) | (FALSE if high > wanted[0] else 0)
    within = any(low <= each <= high for each in wanted)
    only = any(low == each == high for each in wanted)
    return (TRUE if within else 0) | (0 if only else FALSE)


def _swapped(result: int) -> int:
    return (TRUE if result & FALSE else 0) | (FALSE if result & TRUE else 0) | (result & NULL)


def _comparable(low: Any, high: Any, value: Any) -> bool:
    """Whether Python compares the three as Arrow does."""
    kinds = {_kind(low), _kind(high), _kind(value)}
    if kinds == {"number"}:
        numbers = (low, high, value)
        if all(isinstance(each, int) for each in numbers):
            return True
        return all(not math.isnan(each) and (isinstance(each, float) or abs(each) <= _EXACT) for each in numbers)
    return len(kinds) == 1 and "" not in kinds


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, dt.datetime):  # pandas.Timestamp is one, with its nanoseconds
        return "instant" if value.tzinfo else "local time"
    for kind in (str, bytes, dt.date, dt.time, decimal.Decimal):
        if isinstance(value, kind):
            return kind.__name__
    return ""
