"""Row filters: what a user writes to say which rows are wanted, understood once.

What enters: (column, operator, value) terms, lists of them, lists of such lists, or a pyarrow.compute Expression; and a
schema. What leaves: a `Filter`: the condition, the columns it reads, its name, and what it makes of statistics.
Invariant: rows for which the condition is true are kept; false and null (SQL's unknown) are not. A condition that
cannot be told of this schema is refused before anything is read.
"""

from __future__ import annotations

import datetime as dt
import decimal
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datapipe.dataset.bounds import ANY, FALSE, NULL, TRUE, Bounds, outcomes
from datapipe.dataset.names import no_such_column
from datapipe.errors import ConfigError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

Filters = Any
"""[(column, op, value), …]: all of them; [[…], […]]: any of these lists; or a pyarrow.compute Expression."""

OPERATORS: Final = ("==", "!=", "<", "<=", ">", ">=", "in", "not in")
NONE, SOME, ALL = 0, 1, 2
"""How many of a row group's rows pass, as far as statistics tell."""
_LAW: Final = "filters=[(column, operator, value), …], a list of such lists (any of them), or a pyarrow Expression"


@dataclass(frozen=True, kw_only=True)
class _Term:
    column: str
    operator: str
    value: Any

    @property
    def text(self) -> str:
        value = sorted({_literal(v) for v in self.value}) if self.operator.endswith("in") else _literal(self.value)
        return f"{self.column!r} {self.operator} {value}"


def _literal(value: Any) -> str:
    return f"{type(value).__name__}:{value!r}"


@final
class Filter:
    """A condition on rows, checked against a schema. Made by `read_filter`; immutable, picklable.

    Attributes:
        expression: the condition. columns: those it reads, in the schema's order.
        canonical: its name: the same for lists of terms that differ in order or repeat.
    """

    def __init__(
        self, expression: pc.Expression, columns: tuple[str, ...], canonical: str, terms: list[list[_Term]] | None
    ) -> None:
        self.expression = expression
        self.columns = columns
        self.canonical = canonical
        self._terms = terms

    def __repr__(self) -> str:
        return f"Filter({text_of(self.expression)})"

    def mask(self, table: pa.Table) -> pa.BooleanArray:
        """Which rows of a table pass: no nulls, one chunk.

        Raises:
            ArrowException: a value cannot be compared (an overflow).
        """
        return pc.fill_null(_evaluate(table, self.expression).combine_chunks(), fill_value=False)

    def judge(self, groups: Sequence[Mapping[str, Bounds]], schema: pa.Schema) -> npt.NDArray[np.int8]:
        """NONE, SOME or ALL for each row group, from the bounds of its columns (those that are missing: unknown)."""
        if self._terms is None:
            return _judge_expression(self.expression, groups, schema)
        return np.fromiter((_judge_terms(self._terms, bounds) for bounds in groups), np.int8, len(groups))


def read_filter(filters: Filters, schema: pa.Schema, paths: Sequence[str] = ()) -> Filter:
    """Understand a filter; `paths` as for `no_such_column`.

    Raises:
        ConfigError: it is none. SchemaError: it names no column of the schema, or compares what cannot be compared.
    """
    if isinstance(filters, pc.Expression):
        columns = _columns_of(filters, schema, paths)
        # Long value lists are cut short in the text: what it serialises to tells them apart.
        stored = filters.__reduce__()[1][0]
        batch = pa.ipc.open_file(stored).get_batch(0)
        literals = [(str(field.type), column.to_pylist()) for field, column in zip(batch.schema, batch, strict=True)]
        text = text_of(filters)
        text = stored.to_pybytes().hex() if text == _UNPRINTABLE else f"{text} {literals!r}"
        return _checked(Filter(filters, columns, f"expression {text}", None), schema)
    either = [[_term(term, schema, paths) for term in terms] for terms in _lists(filters)]
    expression = None
    for terms in either:
        every = None
        for term in terms:
            one = _expression(term, schema)
            every = one if every is None else every & one
        expression = every if expression is None else expression | every
    named = {term.column for terms in either for term in terms}
    texts = sorted({" and ".join(sorted({term.text for term in terms})) for terms in either})
    columns = tuple(name for name in schema.names if name in named)
    return _checked(Filter(expression, columns, " or ".join(f"({text})" for text in texts), either), schema)


_UNPRINTABLE: Final = "a condition that cannot be printed"


def text_of(expression: pc.Expression) -> str:
    """The expression for people; Arrow may cut a long string within a character, and then it has no text."""
    try:
        return str(expression)
    except UnicodeDecodeError:
        return _UNPRINTABLE


def _lists(filters: Filters) -> list[list[Any]]:
    if not isinstance(filters, list | tuple) or not filters:
        raise ConfigError(f"filters={filters!r}", expected=_LAW)
    if _is_term(filters):
        raise ConfigError(f"filters={filters!r}", expected=_LAW, fix=f"filters=[{filters!r}]")
    if all(_is_term(term) for term in filters):
        return [list(filters)]
    for terms in filters:
        if not isinstance(terms, list | tuple) or not terms or not all(_is_term(term) for term in terms):
            raise ConfigError(f"a filter {terms!r}", expected=_LAW)
    return [list(terms) for terms in filters]


def _is_term(term: Any) -> bool:
    return isinstance(term, list | tuple) and len(term) == 3 and isinstance(term[0], str) and isinstance(term[1], str)


def _term(term: Any, schema: pa.Schema, paths: Sequence[str]) -> _Term:
    column, operator, value = term
    operator = {"=": "=="}.get(operator, " ".join(operator.lower().split()))
    if column not in schema.names:
        raise no_such_column(column, schema.names, paths)
    if operator not in OPERATORS:
        raise ConfigError(f"the operator {term[1]!r} in {term!r}", expected=", ".join(OPERATORS))
    if operator in ("in", "not in"):
        if not isinstance(value, list | tuple | set | frozenset | np.ndarray | pa.Array):
            raise ConfigError(f"{value!r} in {term!r}", expected="a list of values after " + repr(operator))
        values = [_value(v, column, operator, schema) for v in (value if not isinstance(value, pa.Array) else [*value])]
        return _Term(column=column, operator=operator, value=values)
    return _Term(column=column, operator=operator, value=_value(value, column, operator, schema))


def _value(value: Any, column: str, operator: str, schema: pa.Schema) -> Any:
    """The value as Python has it; a string that is to be a time, as a time."""
    if isinstance(value, pa.Scalar):
        value = value.as_py()
    elif isinstance(value, np.generic) and not isinstance(value, np.datetime64 | np.timedelta64):
        value = value.item()
    if isinstance(value, decimal.Decimal) and not pa.types.is_decimal(_value_type(schema.field(column).type)):
        value = int(value) if value == value.to_integral_value() else float(value)
    if value is None:
        raise ConfigError(
            f"({column!r}, {operator!r}, None)",
            expected="a value: null equals nothing, itself included",
            fix=f"filters=pyarrow.compute.field({column!r}).is_null(), or .is_valid()",
        )
    if isinstance(value, float) and value != value and operator.endswith("in"):  # noqa: PLR0124  (NaN)
        raise ConfigError(
            f"NaN after {operator!r}", expected="numbers: NaN equals nothing", fix="pyarrow.compute.is_nan"
        )
    kind = _value_type(schema.field(column).type)
    if isinstance(value, str) and pa.types.is_temporal(kind):
        try:
            return pa.scalar(value).cast(kind).as_py()
        except (pa.ArrowException, ValueError) as error:
            raise _mismatch(f"{value!r} for column {column!r} ({kind}): {error}") from None
    return value


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _expression(term: _Term, schema: pa.Schema) -> pc.Expression:
    field = pc.field(term.column)
    kind = _value_type(schema.field(term.column).type)
    if (wide := _wider(kind, term.value if isinstance(term.value, list) else [term.value])) is not None:
        field, kind = field.cast(wide, safe=False), wide
    if term.operator in ("in", "not in"):
        inside = field.isin(_typed(term.value, kind, pa.array))
        # Arrow calls "null in (…)" false; SQL calls it and its opposite unknown.
        return inside if term.operator == "in" else ~inside & field.is_valid()
    value = pc.scalar(_typed(term.value, kind, pa.scalar))
    result: pc.Expression = {
        "==": field.__eq__, "!=": field.__ne__, "<": field.__lt__, "<=": field.__le__, ">": field.__gt__,
        ">=": field.__ge__,
    }[term.operator](value)  # fmt: skip
    return result


def _wider(kind: pa.DataType, values: list[Any]) -> pa.DataType | None:
    """The type to compare in, where Arrow would cut the values down to the column's: 0 would be == -0.5."""
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        return pa.float64()
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return pa.float64() if any(isinstance(value, float) for value in values) else None
    if any(isinstance(value, dt.datetime) for value in values):
        if pa.types.is_timestamp(kind) and kind.unit != "ns":
            return pa.timestamp("us" if all(not getattr(v, "nanosecond", 0) for v in values) else "ns", kind.tz)
        if pa.types.is_date(kind):
            return pa.timestamp("us")
    return None


def _typed(value: Any, kind: pa.DataType, make: Any) -> Any:
    """As an integer of the column's own type where it is one that fits: 2^63 and more have no other."""
    if make is pa.array and not value:
        return pa.array([], type=kind if not pa.types.is_float16(kind) else pa.float64())
    if make is pa.array and any(isinstance(v, dt.datetime) for v in value):  # among them, a day is its midnight
        midnight = dt.time(tzinfo=next(v.tzinfo for v in value if isinstance(v, dt.datetime)))
        value = [v if isinstance(v, dt.datetime) or not isinstance(v, dt.date) else dt.datetime.combine(v, midnight)
                 for v in value]  # fmt: skip
    if make is pa.array and pa.types.is_floating(kind) and 0 in value:  # `is_in` tells -0.0 from 0.0, == does not
        value = [*value, 0.0, -0.0]
    if pa.types.is_integer(kind) and not any(isinstance(v, bool) for v in (value if make is pa.array else [value])):
        try:
            return make(value, type=kind)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            pass
    first = value[0] if make is pa.array else value
    if pa.types.is_timestamp(kind) and isinstance(first, dt.datetime):  # nanoseconds would be cut off
        return make(value, type=pa.timestamp(kind.unit, "UTC" if first.tzinfo else None))
    try:
        return make(value)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise _mismatch(f"{value!r} ({error})") from None


def _mismatch(what: str) -> SchemaError:
    return SchemaError(
        f"the filter cannot be applied: {' '.join(what.split())[:300]}",
        expected="a value that compares with the column's type",
        fix="write the value in the column's type (`datapipe describe` shows it)",
    )


def _evaluate(table: pa.Table, expression: pc.Expression) -> pa.ChunkedArray:
    from pyarrow import acero

    steps = [
        acero.Declaration("table_source", acero.TableSourceNodeOptions(table)),
        acero.Declaration("project", acero.ProjectNodeOptions([expression], ["mask"])),
    ]
    # One thread: the order of the rows stays, and the caller runs row groups side by side.
    return acero.Declaration.from_sequence(steps).to_table(use_threads=False).column(0)


def _checked(filter_: Filter, schema: pa.Schema) -> Filter:
    empty = pa.schema([schema.field(name) for name in filter_.columns]).empty_table()
    try:
        kind = _evaluate(empty, filter_.expression).type
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise _mismatch(f"{error} (in {text_of(filter_.expression)})") from None
    if not pa.types.is_boolean(kind):
        raise SchemaError(
            f"the filter {text_of(filter_.expression)} gives {kind}", expected="a condition: true or false"
        )
    return filter_


def _columns_of(expression: pc.Expression, schema: pa.Schema, paths: Sequence[str]) -> tuple[str, ...]:
    """The columns an expression reads: those without which it cannot be told what it means."""
    if "FieldPath(" in re.sub(r'"(\\.|[^"\\])*"', "", text_of(expression)):
        raise ConfigError(
            f"the filter {text_of(expression)} names columns by number", fix='pyarrow.compute.field("name")'
        )
    table = schema.empty_table()
    try:
        _evaluate(table, expression)
    except (pa.ArrowException, ValueError, TypeError) as error:
        missing = re.search(r"No match for FieldRef\.(?:Name|Nested)\((?:FieldRef\.Name\()?([^)]*)\)", str(error))
        raise no_such_column(missing[1], schema.names, paths) if missing else _mismatch(f"{error}") from None
    read = []
    for at, name in enumerate(schema.names):
        try:
            _evaluate(table.remove_column(at), expression)
        except (pa.ArrowException, ValueError, TypeError):
            read.append(name)
    if not read:
        raise ConfigError(f"the filter {text_of(expression)} reads no column", expected="a condition on columns")
    return tuple(read)


def _judge_terms(either: list[list[_Term]], bounds: Mapping[str, Bounds]) -> int:
    """Kleene's and and or, over every outcome that each term may have."""
    result = FALSE
    for terms in either:
        every = TRUE
        for term in terms:
            known = bounds.get(term.column)
            may = ANY if known is None else outcomes(known, term.operator, term.value)
            every = _swap(_or(_swap(every), _swap(may)))
        result = _or(result, every)
    return NONE if not result & TRUE else ALL if result == TRUE else SOME


def _swap(result: int) -> int:
    return (TRUE if result & FALSE else 0) | (FALSE if result & TRUE else 0) | (result & NULL)


def _or(a: int, b: int) -> int:
    result = TRUE if (a | b) & TRUE else 0
    result |= FALSE if a & b & FALSE else 0
    null = (a & NULL and b & (NULL | FALSE)) or (b & NULL and a & (NULL | FALSE))
    return result | (NULL if null else 0)


def _judge_expression(
    expression: pc.Expression, groups: Sequence[Mapping[str, Bounds]], schema: pa.Schema
) -> npt.NDArray[np.int8]:
    """Arrow's own simplification, which knows what never holds (and not what always does)."""
    import pyarrow.dataset as ds
    from pyarrow import fs

    text = re.sub(r'"(\\.|[^"\\])*"', "", text_of(expression))
    # Statistics leave out NaN, for which no comparison holds: bounds say something of floats only where nothing is
    # made of a comparison's being false (not, !=, a function, one comparison within another).
    plain = (
        text != _UNPRINTABLE and not re.search(r"!=|\w\(|\) [=<>]|[=<>] \(", text) and '"' not in "".join(schema.names)
    )
    kind, here = ds.ParquetFileFormat(), fs.LocalFileSystem()
    fragments = []
    for number, bounds in enumerate(groups):
        known = pc.scalar(value=True)
        for name, bound in bounds.items():
            field = schema.field(name)
            if plain or not pa.types.is_floating(_value_type(field.type)):
                known = known & _guarantee(field, bound)
        fragments.append(kind.make_fragment(str(number), filesystem=here, partition_expression=known))
    result = np.zeros(len(groups), np.int8)
    try:
        for fragment in ds.FileSystemDataset(fragments, schema, kind, here).get_fragments(filter=expression):
            result[int(fragment.path)] = SOME
    except pa.ArrowException:  # a bound that cannot be what the expression makes of it
        result[:] = SOME
    return result


def _guarantee(field: pa.Field, bound: Bounds) -> pc.Expression:
    column = pc.field(field.name)
    if not bound.values:
        return column.is_null()
    sure = pc.scalar(value=True)
    if bound.low is None or bound.high is None or pa.types.is_dictionary(field.type):
        return sure
    try:
        low, high = (pc.scalar(pa.scalar(each, type=field.type)) for each in (bound.low, bound.high))
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return sure
    # In this form Arrow understands it: a null beside each comparison, not beside both.
    for one in (column >= low, column <= high):
        sure = sure & (one | column.is_null() if bound.nulls else one)
    return sure
