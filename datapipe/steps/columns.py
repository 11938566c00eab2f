"""Columns of a step's table: read as the type a step works on, set, dropped, marked.

What enters and leaves: Arrow tables. Invariant: no function changes the table it is given; a column that is replaced
keeps its place, a new one goes last, and the number and order of rows never change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datapipe.errors import ConfigError
from datapipe.steps.step import DROP, QUARANTINE, ROW_ID

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

TEXT = "text"


def set_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    """The table with column `name` (an Arrow array or chunked array of `table.num_rows`) replaced or appended."""
    place = table.schema.get_field_index(name)
    if place < 0:
        return table.append_column(name, values)
    return table.set_column(place, name, values)


def set_columns(table: pa.Table, columns: pa.Table) -> pa.Table:
    """The table with every column of another of as many rows replaced or appended."""
    for name in columns.column_names:
        table = set_column(table, name, columns.column(name))
    return table


def known_names(table: pa.Table) -> list[str]:
    """The names of a table's columns for messages, without those that stages hand to each other."""
    return [name for name in table.column_names if not name.startswith("__")]


def column(table: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    """Column `name` as type `kind`.

    Raises:
        ConfigError: there is no such column, or its type is another and no safe cast leads to `kind`.
    """
    import pyarrow as pa

    if name not in table.column_names:
        raise ConfigError(
            f"there is no column {name!r}; the table has {', '.join(known_names(table)) or 'none'}",
            expected=f"a column {name!r} of type {kind}",
            fix="put the step that gives it earlier in the recipe, or name the column in the reader's options",
        )
    values = table.column(name)
    if values.type == kind:
        return values
    try:
        return values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise ConfigError(
            f"column {name!r} has type {values.type}",
            expected=f"{kind}, or a type that casts to it without loss ({error})",
            fix=f"convert the column {name!r} before this step",
        ) from error


def file_bytes(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column of files' bytes (pictures, sounds) as large_binary; of struct<bytes, path> the bytes.

    Raises:
        ConfigError: there is no such column, or it holds neither bytes nor a struct with a field `bytes`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if name in table.column_names:
        values = table.column(name)
        if pa.types.is_struct(values.type) and values.type.get_field_index("bytes") >= 0:
            table = pa.table({name: pc.struct_field(values, "bytes")})
    return column(table, name, pa.large_binary())


def classic(table: pa.Table) -> pa.Table:
    """The table with string_view and binary_view columns as large_string and large_binary.

    Arrow cannot filter or take view columns (no such kernel up to pyarrow 26), and marked rows must be taken out.
    """
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if field.type == pa.string_view():
            table = table.set_column(place, field.name, table.column(place).cast(pa.large_string()))
        elif field.type == pa.binary_view():
            table = table.set_column(place, field.name, table.column(place).cast(pa.large_binary()))
    return table


def text_of(table: pa.Table) -> pa.ChunkedArray:
    """The column `text` as large_string; a null is a document of which nothing was there: ""."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = column(table, TEXT, pa.large_string())
    return pc.fill_null(values, "") if values.null_count else values


def text_lengths(table: pa.Table, name: str) -> pa.ChunkedArray | None:
    """Bytes of each value of column `name`; None where there is none, or it holds neither text nor bytes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if name not in table.column_names:
        return None
    values = table.column(name)
    text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    raw = pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)
    return pc.binary_length(values) if text or raw else None


def text_bytes_of(table: pa.Table) -> int:
    """UTF-8 bytes of the column `text`, all rows together; 0 where there is none."""
    import pyarrow.compute as pc

    lengths = text_lengths(table, TEXT)
    return 0 if lengths is None else pc.sum(lengths).as_py() or 0


def row_ids(table: pa.Table) -> pa.ChunkedArray:
    """The column `row_id` as string."""
    import pyarrow as pa

    return column(table, ROW_ID, pa.string())


def to_polars(values: pa.ChunkedArray) -> pl.Series:
    """An Arrow string column as a polars series (one chunk)."""
    import polars as pl

    series = pl.from_arrow(values)
    if not isinstance(series, pl.Series):  # a zero-chunk array of some versions comes back as a frame
        raise TypeError(f"{type(series).__name__} from an Arrow column")
    return series.rechunk()


def to_arrow(series: pl.Series) -> pa.Array:
    """A polars series as one Arrow array in classic layout (large_string, not string_view)."""
    import polars as pl

    return series.to_arrow(compat_level=pl.CompatLevel.oldest())


def mark(table: pa.Table, reasons: Any, *, quarantine: bool = False) -> pa.Table:
    """The table with marks: `reasons` is a string array of `table.num_rows`, null where the row stays.

    A table with no marks is returned as it is, so that clean data costs no column.
    """
    if reasons.null_count == len(reasons):
        return table
    return set_column(table, QUARANTINE if quarantine else DROP, reasons)
