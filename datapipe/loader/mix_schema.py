"""One schema for the sources of a mix.

What enters: each source's schema. What leaves: the schema that all can be cast to. Invariant: the same columns in each;
a cast loses nothing: integers widen to integers, floats to floats, short offsets to long ones, dictionaries and views
to their values, also within lists; everything else must be alike. Anything more is refused by source and column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.types as pt

from datapipe.errors import SchemaError
from datapipe.loader.column_types import value_type

if TYPE_CHECKING:
    from collections.abc import Mapping


def common_schema(schemas: Mapping[str, pa.Schema]) -> pa.Schema:
    """The columns of all sources, in the first one's order.

    Raises:
        SchemaError: a source lacks a column, has one more, or one of a type that does not go with the others'.
    """
    first, *others = schemas
    names = schemas[first].names
    for name in others:
        for column in names:
            if column not in schemas[name].names:
                raise _differing(f"source {name!r} has no column {column!r}, which {first!r} has")
        for column in schemas[name].names:
            if column not in names:
                raise _differing(f"source {name!r} has a column {column!r}, which {first!r} has not")
    fields = []
    for column in names:
        kind = schemas[first].field(column).type
        for name in others:
            other = schemas[name].field(column).type
            joined = common_type(kind, other)
            if joined is None:
                raise SchemaError(
                    f"column {column!r} is {other} in source {name!r}, and {kind} in {first!r}",
                    expected="the same type, or integers (floats) of any width",
                    fix="rewrite one of them, or open each without that column: open_dataset(..., columns=[...])",
                )
            kind = joined
        fields.append(pa.field(column, kind))
    return pa.schema(fields)


def shared_columns(schemas: Mapping[str, pa.Schema]) -> pa.Schema:
    """The columns that all sources have, of types that go together; those that do not are left out."""
    first, *others = schemas
    fields = []
    for field in schemas[first]:
        kind: pa.DataType | None = field.type
        for name in others:
            at = schemas[name].get_field_index(field.name)
            kind = common_type(kind, schemas[name].field(at).type) if kind is not None and at >= 0 else None
        if kind is not None:
            fields.append(pa.field(field.name, kind))
    return pa.schema(fields)


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type that both can be cast to without loss; None: there is none."""
    if one.equals(other):
        return one
    one, other = _plain(one), _plain(other)
    if one.equals(other):
        return one
    if pt.is_integer(one) and pt.is_integer(other):
        return _common_integer(one, other)
    if pt.is_floating(one) and pt.is_floating(other):
        return one if one.bit_width >= other.bit_width else other
    for is_short, is_long, long in (
        (pt.is_string, pt.is_large_string, pa.large_string()),
        (pt.is_binary, pt.is_large_binary, pa.large_binary()),
    ):
        if all(is_short(kind) or is_long(kind) for kind in (one, other)):
            return long
    if pt.is_fixed_size_list(one) and pt.is_fixed_size_list(other):
        inner = common_type(one.value_type, other.value_type) if one.list_size == other.list_size else None
        return None if inner is None else pa.list_(inner, one.list_size)
    if _is_list(one) and _is_list(other):
        inner = common_type(one.value_type, other.value_type)
        if inner is None:
            return None
        return pa.large_list(inner) if pt.is_large_list(one) or pt.is_large_list(other) else pa.list_(inner)
    return None


def _common_integer(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    width = max(one.bit_width, other.bit_width)
    if pt.is_signed_integer(one) == pt.is_signed_integer(other):
        return one if one.bit_width == width else other
    signed, unsigned = (one, other) if pt.is_signed_integer(one) else (other, one)
    bits = max(signed.bit_width, unsigned.bit_width * 2)
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(bits)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pt.is_list(kind) or pt.is_large_list(kind))


def _plain(kind: pa.DataType) -> pa.DataType:
    kind = value_type(kind)
    if pt.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pt.is_binary_view(kind) else kind


def _differing(got: str) -> SchemaError:
    return SchemaError(
        got,
        expected="the same columns in every source",
        fix="open each with those that all have: open_dataset(..., columns=[...])",
    )
