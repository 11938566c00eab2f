"""Rows of Arrow tables and columns by their numbers, views of text and of bytes among them.

What enters: values, and row numbers. What leaves: those rows, of the same type. Invariant: what Arrow's own `take`
gives; it has no kernel for views (26.0), which go by way of the plain type.
"""

from __future__ import annotations

from typing import TypeVar

import pyarrow as pa
import pyarrow.types as pt

Values = TypeVar("Values", pa.Array, pa.ChunkedArray)


def take_values(values: Values, rows: pa.Array) -> Values:
    """The values with these numbers, in the order asked."""
    kind = values.type
    if pt.is_string_view(kind) or pt.is_binary_view(kind):
        plain = pa.large_string() if pt.is_string_view(kind) else pa.large_binary()
        return values.cast(plain).take(rows).cast(kind)
    return values.take(rows)


def has_views(table: pa.Table) -> bool:
    """Whether a column is of views, which Arrow's `filter` has no kernel for either."""
    return any(pt.is_string_view(kind) or pt.is_binary_view(kind) for kind in table.schema.types)


def take_rows(table: pa.Table, rows: pa.Array) -> pa.Table:
    """The rows with these numbers, in the order asked."""
    if has_views(table):
        return pa.Table.from_arrays([take_values(each, rows) for each in table.itercolumns()], schema=table.schema)
    return table.take(rows)
