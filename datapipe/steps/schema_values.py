"""The values of one column, as the type that a schema declares for it.

What enters: a column of any Arrow type, what the schema says of it. What leaves: (an array of the declared type, a
reason or null for each row, a detail or null for each row). Invariant: a row with a reason holds null; every other
value is what was there, converted without loss (a number that a float cannot hold exactly is rounded to the nearest).
Needs pyarrow alone, so that a training machine can run it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datapipe.steps import column_schema as schema
from datapipe.steps.column_schema import limits

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.column_schema import ColumnSchema

    Found = tuple[pa.Array, pa.Array, pa.Array]

_SHOWN: Final = 80
_INTEGER: Final = r"\A[+-]?[0-9]+(?:\.0*)?\z"
_FLOAT: Final = r"\A[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\z"
_ODD_FLOAT: Final = r"(?i)\A[+-]?(?:nan|inf|infinity)\z"
_DECIMAL: Final = r"\A[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)\z"
_OFFSET: Final = r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)\z"
_TIME: Final = r"[T ][0-9]{2}:"
_TRUE: Final = ("true", "t", "yes", "y", "1")
_FALSE: Final = ("false", "f", "no", "n", "0")


def absent(n: int, name: str, column: ColumnSchema, target: pa.DataType) -> Found:
    """The column of a file that lacks it (or that holds nothing but nulls of no type)."""
    import pyarrow as pa

    reason = None if column.optional and column.nullable else schema.NULL if column.optional else schema.MISSING
    detail = None if reason is None else f"{name}: the file has no such column, or nothing in it"
    text = pa.string()
    return pa.nulls(n, target), pa.repeat(pa.scalar(reason, text), n), pa.repeat(pa.scalar(detail, text), n)


def first_of(before: pa.Array, after: pa.Array) -> pa.Array:
    """What was said first of each row."""
    import pyarrow.compute as pc

    return after if before.null_count == len(before) else pc.coalesce(before, after)


def converted(values: pa.ChunkedArray, name: str, column: ColumnSchema, target: pa.DataType) -> Found:
    """The column as its declared type; see the module."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    source = _plain(values)
    n = len(source)
    said = np.full(n, None, object)
    if _is_text(source.type):
        nulls = column.nulls if column.nulls is not None else () if pa.types.is_large_string(target) else ("",)
        bare = source if pa.types.is_large_string(target) else pc.utf8_trim_whitespace(source)
        if nulls:
            meant = pc.is_in(bare, value_set=pa.array(nulls, bare.type))
            bare = pc.if_else(meant, pa.scalar(None, bare.type), bare)
        source_nulls = bare.is_null()
        array, faults = _parsed(bare, column, target)
    else:
        source_nulls = source.is_null()
        array, faults = _cast(source, column, target)
    array = array if array.type == target else array.cast(target)
    for reason, rows in faults:
        said[rows & (said == None)] = reason  # noqa: E711  (elementwise)
    if not column.nullable:
        said[_mask(source_nulls)] = schema.NULL
    for reason, rows in _broken(array, name, column, target):
        said[_mask(rows) & (said == None)] = reason  # noqa: E711
    bad = said != None  # noqa: E711
    if not bad.any():
        return array, pa.nulls(n, pa.string()), pa.nulls(n, pa.string())
    details = np.full(n, None, object)
    for row in np.flatnonzero(bad).tolist():
        details[row] = f"{name} = {_shown(source[row])}"
    array = pc.if_else(pa.array(bad), pa.scalar(None, target), array)
    return array, pa.array(said.tolist(), pa.string()), pa.array(details.tolist(), pa.string())


def _broken(array: pa.Array, name: str, column: ColumnSchema, target: pa.DataType) -> list[tuple[str, pa.Array]]:
    """What converted values break of the schema, by reason: bool[n], null where the value is."""
    import pyarrow as pa
    import pyarrow.compute as pc

    low, high, allowed = limits(name, column, target)
    found: list[tuple[str, pa.Array]] = []
    if column.finite and pa.types.is_floating(target):
        found.append((schema.NOT_FINITE, pc.invert(pc.is_finite(array))))
    for bound, beyond in ((low, pc.less), (high, pc.greater)):
        if bound is not None:
            exact = pa.types.is_temporal(target)
            found.append((schema.OUT_OF_RANGE, beyond(array if exact else array.cast(pa.float64(), safe=False), bound)))
    if len(allowed):
        strange = pc.and_(pc.invert(pc.is_in(array, value_set=allowed)), array.is_valid())
        found.append((schema.NOT_ALLOWED, strange))
    if column.pattern:
        found.append((schema.NO_MATCH, pc.invert(pc.match_substring_regex(array, rf"\A(?:{column.pattern})\z"))))
    return found


def _parsed(
    text: pa.Array, column: ColumnSchema, target: pa.DataType
) -> tuple[pa.Array, list[tuple[str, npt.NDArray[np.bool_]]]]:
    """Texts as the declared type, and which of them are none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_large_string(target):
        return text, []
    if pa.types.is_boolean(target):
        lower = pc.utf8_lower(text)
        true, false = (pc.is_in(lower, value_set=pa.array(words, lower.type)) for words in (_TRUE, _FALSE))
        known = pc.or_(true, false)
        return pc.if_else(known, true, pa.scalar(None, pa.bool_())), [
            (schema.NOT_A_BOOL, _mask(pc.and_(pc.invert(known), text.is_valid())))
        ]
    if pa.types.is_temporal(target):
        return _parsed_times(text, column, target)
    if pa.types.is_floating(target):
        odd = pc.match_substring_regex(text, _ODD_FLOAT)
        good = pc.or_(pc.match_substring_regex(text, _FLOAT), odd)
    else:
        good = pc.match_substring_regex(text, _INTEGER if pa.types.is_integer(target) else _DECIMAL)
    bad = _mask(pc.invert(good))
    spelt = pc.replace_substring_regex(pc.if_else(good, text, pa.scalar(None, text.type)), r"\A\+", "")
    if pa.types.is_integer(target):
        spelt = pc.replace_substring_regex(spelt, r"\.0*\z", "")
    through = (lambda part: part.cast(pa.float64())) if pa.types.is_floating(target) else None
    array, beyond = _tried(spelt if through is None else through(spelt), lambda part: part.cast(target, safe=False)
                           if pa.types.is_floating(target) else part.cast(target))  # fmt: skip
    if pa.types.is_floating(target):
        beyond = _mask(pc.and_(pc.is_inf(array), pc.invert(odd)))
    return array, [(schema.NOT_A_NUMBER, bad), (schema.OUT_OF_RANGE, beyond)]


def _parsed_times(
    text: pa.Array, column: ColumnSchema, target: pa.DataType
) -> tuple[pa.Array, list[tuple[str, npt.NDArray[np.bool_]]]]:
    """ISO 8601, or as `format` says; a time with an offset becomes UTC."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.format:
        array = pc.strptime(text, format=column.format, unit="us", error_is_null=True).cast(target, safe=False)
    elif pa.types.is_date(target):
        array, _ = _tried(text, lambda part: part.cast(target))
    else:
        zoned = pc.and_(pc.match_substring_regex(text, _OFFSET), pc.match_substring_regex(text, _TIME))
        none = pa.scalar(None, text.type)
        local, _ = _tried(pc.if_else(zoned, none, text), lambda part: part.cast(target))
        utc, _ = _tried(pc.if_else(zoned, text, none), lambda part: part.cast(pa.timestamp("us", "UTC")))
        array = pc.coalesce(local, utc.cast(target))
    return array, [(schema.NOT_A_DATE, _mask(pc.and_(array.is_null(), text.is_valid())))]


def _cast(
    source: pa.Array, column: ColumnSchema, target: pa.DataType
) -> tuple[pa.Array, list[tuple[str, npt.NDArray[np.bool_]]]]:
    """Values that are no texts as the declared type, and which of them are none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    del column
    kind = source.type
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if pa.types.is_floating(target) and number:
        array = source.cast(target, safe=False)
        wide = source.cast(pa.float64(), safe=False)
        return array, [(schema.OUT_OF_RANGE, _mask(pc.and_(pc.is_inf(array), pc.is_finite(wide))))]
    if pa.types.is_boolean(target) and number:
        whole = pc.is_in(source.cast(pa.float64(), safe=False), value_set=pa.array([0.0, 1.0]))
        array = pc.if_else(whole, pc.not_equal(source.cast(pa.float64(), safe=False), 0.0), pa.scalar(None, pa.bool_()))
        return array, [(schema.NOT_A_BOOL, _mask(pc.and_(pc.invert(whole), source.is_valid())))]
    zoned = pa.types.is_timestamp(kind) and kind.tz is not None and pa.types.is_timestamp(target)
    array, bad = _tried(source, lambda part: part.cast(pa.timestamp("us", "UTC")).cast(target) if zoned
                        else part.cast(target))  # fmt: skip
    if pa.types.is_temporal(target):
        return array, [(schema.NOT_A_DATE, bad)]
    if pa.types.is_boolean(target):
        return array, [(schema.NOT_A_BOOL, bad)]
    if pa.types.is_large_string(target):
        return array, [(schema.NOT_TEXT, bad)]
    # A whole number that does not fit is out of range; one and a half is no integer.
    whole = bad & _mask(pc.equal(source, pc.floor(source))) if pa.types.is_floating(kind) else bad & number
    return array, [(schema.OUT_OF_RANGE, whole), (schema.NOT_A_NUMBER, bad)]


def _tried(
    values: pa.Array, cast: Callable[[pa.Array], pa.Array]
) -> tuple[pa.Array, npt.NDArray[np.bool_]]:  # fmt: skip
    """`cast` of each value that it takes, null elsewhere; and which it refused, found by halving.

    Arrow casts a column or refuses it. Clean columns cost one cast; of n values with k bad ones, 2 k log2(n) casts.
    """
    import numpy as np
    import pyarrow as pa

    n = len(values)
    bad = np.zeros(n, bool)
    kind = cast(values.slice(0, 0)).type if _can(values, cast) else None
    if kind is None:
        return pa.nulls(n), _mask(values.is_valid())
    parts: list[pa.Array] = []
    work = [(0, n)]
    while work:
        start, size = work.pop()
        part = values.slice(start, size)
        try:
            parts.append(cast(part))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            if size == 1:
                bad[start] = True
                parts.append(pa.nulls(1, kind))
            else:
                work += [(start + size // 2, size - size // 2), (start, size // 2)]
    return pa.concat_arrays(parts) if parts else pa.nulls(0, kind), bad


def _can(values: pa.Array, cast: Callable[[pa.Array], pa.Array]) -> bool:
    """Whether there is a cast from one type to the other at all."""
    import pyarrow as pa

    try:
        cast(values.slice(0, 0))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return False
    return True


def _plain(values: pa.ChunkedArray) -> pa.Array:
    """One array; dictionaries spelled out, texts as large_string."""
    import pyarrow as pa

    array = values.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.nulls(0, array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(pa.large_string()) if _is_text(array.type) else array


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _mask(rows: pa.Array) -> npt.NDArray[np.bool_]:
    """A bool array with null as False."""
    import numpy as np
    import pyarrow.compute as pc

    return np.asarray(pc.fill_null(rows, fill_value=False).to_numpy(zero_copy_only=False), bool)


def _shown(value: pa.Scalar) -> str:
    plain = value.as_py()
    text = repr(plain)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
