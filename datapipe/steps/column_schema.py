"""What a schema says of a column: its type, whether it may be null, which values it takes; and why a row does not fit.

What enters: options. What leaves: checked frozen values, the Arrow type each is stored as. Invariant: a `ColumnSchema`
that exists can be applied.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

MISSING: Final = "schema_missing_column"
NOT_A_NUMBER: Final = "schema_not_a_number"
NOT_A_BOOL: Final = "schema_not_a_bool"
NOT_A_DATE: Final = "schema_not_a_date"
NOT_TEXT: Final = "schema_not_text"
NULL: Final = "schema_null"
NOT_FINITE: Final = "schema_not_finite"
OUT_OF_RANGE: Final = "schema_out_of_range"
NOT_ALLOWED: Final = "schema_not_allowed"
NO_MATCH: Final = "schema_no_match"
REASONS: Final = (
    MISSING, NOT_A_NUMBER, NOT_A_BOOL, NOT_A_DATE, NOT_TEXT, NULL, NOT_FINITE, OUT_OF_RANGE, NOT_ALLOWED, NO_MATCH,
)  # fmt: skip

INTEGERS: Final = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS: Final = ("float32", "float64")
_TYPES: Final = (*INTEGERS, *FLOATS, "bool", "string", "category", "date", "timestamp")
_DECIMAL: Final = re.compile(r"decimal\(\s*(\d{1,2})\s*,\s*(\d{1,2})\s*\)")


@dataclass(frozen=True, kw_only=True)
class ColumnSchema:
    """What a column holds.

    Attributes:
        type: int8 … int64, uint8 … uint64, float32, float64, bool, string, category (a text of which there are few: the
            step categories numbers them), date (days), timestamp (microseconds; UTC where the value has an offset), or
            decimal(precision, scale).
        nullable: whether null is a value. optional: whether a file may lack the column; its rows then have null.
        low, high: bounds, both inside; dates as texts.
        allowed: the values there may be; () for any. pattern: a regular expression (RE2) that texts match as a whole.
        finite: refuse NaN and infinity.
        nulls: texts that mean null; by default the empty one, and for strings and categories none.
        format: how dates and timestamps are written, as strptime has it; "" for ISO 8601.
    """

    SHORT: ClassVar[str] = "type"

    type: str = "string"
    nullable: bool = True
    optional: bool = False
    low: float | str | None = None
    high: float | str | None = None
    allowed: tuple[str | int | float | bool, ...] = ()
    pattern: str = ""
    finite: bool = False
    nulls: tuple[str, ...] | None = None
    format: str = ""

    def __post_init__(self) -> None:
        found = _DECIMAL.fullmatch(self.type)
        if not (self.type in _TYPES or (found and 0 <= int(found[2]) <= int(found[1]) and 1 <= int(found[1]) <= 38)):
            raise ConfigError(
                f"schema: type {self.type!r}", expected=f"one of {', '.join(_TYPES)}, decimal(38, 0 … 38)"
            )
        if self.pattern:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ConfigError(f"schema: pattern {self.pattern!r} ({error})", expected="an expression") from None
            if self.type not in ("string", "category"):
                raise ConfigError(f"schema: a pattern for {self.type}", expected="a pattern for texts alone")
        if self.type in ("bool", "string", "category") and (self.low is not None or self.high is not None):
            raise ConfigError(f"schema: bounds for {self.type}", expected="bounds for numbers, dates and times")
        if self.format and self.type not in ("date", "timestamp"):
            raise ConfigError(f"schema: a format for {self.type}", expected="a format for dates and timestamps")


def arrow_type(kind: str) -> pa.DataType:
    """The Arrow type that a declared type is stored as."""
    import pyarrow as pa

    if found := _DECIMAL.fullmatch(kind):
        return pa.decimal128(int(found[1]), int(found[2]))
    return {
        **{name: getattr(pa, name)() for name in (*INTEGERS, *FLOATS)},
        "bool": pa.bool_(),
        "string": pa.large_string(),
        "category": pa.large_string(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us"),
    }[kind]


def limits(
    name: str, column: ColumnSchema, target: pa.DataType
) -> tuple[pa.Scalar | None, pa.Scalar | None, pa.Array]:  # fmt: skip
    """(low, high, allowed values) as the column's type; of numbers, the bounds as they are compared.

    Raises:
        ConfigError: one is no value of that type.
    """
    import pyarrow as pa

    def scalar(value: Any, kind: pa.DataType) -> pa.Scalar:
        try:
            return pa.scalar(str(value), pa.large_string()).cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError):
            raise ConfigError(
                f"schema.columns.{name}: {value!r}", expected=f"a value of type {column.type}", fix="correct it"
            ) from None

    # A bound may lie beyond or between the values of the type: -0.5 for uint8.
    compared = target if pa.types.is_temporal(target) else pa.float64()
    low, high = (None if value is None else scalar(value, compared) for value in (column.low, column.high))
    if pa.types.is_boolean(target) or pa.types.is_large_string(target):
        texts = [str(value).lower() if isinstance(value, bool) else str(value) for value in column.allowed]
    else:
        texts = [str(value) for value in column.allowed]
    allowed = pa.array([scalar(text, target).as_py() for text in texts], target)
    return low, high, allowed
