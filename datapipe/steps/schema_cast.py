"""schema: columns of the declared types, whatever types they came in; a row that does not fit is quarantined.

What enters: a table whose columns came from CSV (texts), JSON, Parquet or Arrow, of other types from file to file. What
leaves: the same rows with the declared columns, in the declared order and types, so that files of unlike schemas become
one table. Invariant: a value is converted without loss or its row is marked, with the column and the value in the
detail; the first column that does not fit, in the declared order, gives the reason. What is done to a row depends on
that row alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from datapipe.errors import ConfigError
from datapipe.steps.by_name import ByName
from datapipe.steps.column_schema import REASONS, ColumnSchema, arrow_type, limits
from datapipe.steps.columns import mark, set_column
from datapipe.steps.schema_values import absent, converted, first_of
from datapipe.steps.step import DETAIL, StepSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

SYSTEM: Final = ("row_id", "media_type", "text", "raw", "bad_bytes")
"""Columns of a reader's own, which a schema need not name."""


@dataclass(frozen=True, kw_only=True)
class SchemaOptions:
    """Options of schema.

    Attributes:
        columns: by name, in the order they are to have, a type or a mapping of what the column holds.
        extra: columns that are not named: "drop" leaves them out, "keep" passes them on as they are. The reader's own
            (row_id, media_type, text, raw, bad_bytes) always stay.
    """

    columns: ByName[ColumnSchema] = ByName()  # noqa: RUF009  (immutable)
    extra: Literal["drop", "keep"] = "drop"

    def __post_init__(self) -> None:
        for name in self.columns:
            if name in ("row_id", "media_type", "raw", "bad_bytes") or name.startswith("__"):
                raise ConfigError(f"schema.columns names {name!r}", expected="columns of the input", fix="remove it")
        for name, each in self.columns.items():
            _bounds(name, each)


def schema_cast(table: pa.Table, keys: Keys, *, options: SchemaOptions) -> pa.Table:
    """Cast every declared column; quarantine what does not fit.

    Args:
        table: any columns.
        keys: not used.
        options: the target schema; without columns the table passes as it is.

    Returns:
        The reader's own columns, the declared ones, then others where `extra` is "keep"; marked rows hold null where
        they did not fit.
    """
    del keys
    if not options.columns:
        return table
    import pyarrow as pa

    n = table.num_rows
    reasons = pa.nulls(n, pa.string())
    details = pa.nulls(n, pa.string())
    names = table.column_names
    result = table.select([each for each in names if _own(each) and each not in options.columns])
    for name, column in options.columns.items():
        target = arrow_type(column.type)
        if name not in names or pa.types.is_null(table.schema.field(name).type):
            array, fault, detail = absent(n, name, column, target)
        else:
            array, fault, detail = converted(table.column(name), name, column, target)
        result = result.append_column(name, array)
        reasons, details = first_of(reasons, fault), first_of(details, detail)
    if options.extra == "keep":
        for name in names:
            if name not in result.column_names:
                result = result.append_column(name, table.column(name))
    marked = mark(result, reasons, quarantine=True)
    return marked if marked is result else set_column(marked, DETAIL, details)


def _own(name: str) -> bool:
    return name in SYSTEM or name.startswith("__")


def _bounds(name: str, column: ColumnSchema) -> None:
    """Refuse bounds and allowed values that are none of the column's type."""
    for word, value in (("low", column.low), ("high", column.high)):
        dated = column.type in ("date", "timestamp")
        if value is not None and isinstance(value, str) != dated:
            raise ConfigError(
                f"schema.columns.{name}.{word} = {value!r}",
                expected="a date in ISO 8601, in quotes" if dated else "a number",
            )
    if isinstance(column.low, float) and isinstance(column.high, float) and column.low > column.high:
        raise ConfigError(f"schema.columns.{name}: low {column.low} above high {column.high}", expected="low ≤ high")


def resolve(spec: StepSpec, options: SchemaOptions) -> StepSpec:
    """The columns that the options declare are given; none is needed, as one may be optional."""
    return replace(spec, gives=tuple(options.columns))


def build(options: SchemaOptions) -> Step:
    """The step with its options bound.

    Raises:
        ConfigError: a bound or an allowed value is none of its column's type.
    """
    for name, column in options.columns.items():
        limits(name, column, arrow_type(column.type))
    return partial(schema_cast, options=options)


SPEC: Final = StepSpec(
    name="schema",
    version=1,
    kind="map",
    options=SchemaOptions,
    build=build,
    summary="columns of declared types; a row that does not fit is quarantined",
    reasons=REASONS,
    resolve=resolve,
)
