"""Pictures and sounds in a column of Parquet or Arrow: record batches enter, rows of media leave.

Which column they are in: the one called after the medium, else the one of type struct<bytes, path> (how Hugging Face
`datasets` store their features `Image` and `Audio`), else the one of bytes. Its bytes become `image` or `audio:
large_binary`, its path `path`, unless the file has texts or bytes in a column of that name; `label` is the file's own,
of whatever type.

Invariant: every row comes out once: taken, or quarantined with its reason. A row that names a file elsewhere instead of
holding its bytes is quarantined: no path in a file is ever opened.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from datapipe.corpus.file_fault import FileFault
from datapipe.corpus.options import ALL, MEDIA_COLUMNS
from datapipe.corpus.piece import Batch, Quarantined
from datapipe.corpus.reasons import MISSING_MEDIA, NO_COLUMNS, ROW_TOO_LARGE

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.corpus.options import ReadOptions


def media_column(schema: pa.Schema, options: ReadOptions) -> str:
    """The column that holds the medium.

    Raises:
        FileFault: none does, or several may.
    """
    once = [name for name in schema.names if schema.names.count(name) == 1]
    kinds = {name: schema.field(name).type for name in once}
    fit: list[str] = [name for name, kind in kinds.items() if _is_struct(kind) or _is_bytes(kind)]
    assert options.media is not None
    if options.media in fit:
        return options.media
    structs = [name for name in fit if _is_struct(kinds[name])]
    for found in (structs, fit):
        if len(found) == 1:
            return found[0]
    shown = ", ".join(repr(name) for name in schema.names[:12])
    raise FileFault(NO_COLUMNS, f"no one column of {options.media}s (struct<bytes, path> or bytes); it has {shown}")


def media_wanted(schema: pa.Schema, options: ReadOptions) -> list[str]:
    """The columns to read.

    Raises:
        FileFault: as `media_column`.
    """
    asked = dict.fromkeys([media_column(schema, options), *MEDIA_COLUMNS, *options.named(schema.names)])
    if options.id_column is not None:
        asked[options.id_column] = None
    return [name for name in asked if schema.names.count(name) == 1]


def media_records(part: pa.RecordBatch, first_row: int, name: str, options: ReadOptions) -> Batch:
    """Rows of media from rows of a table; `first_row` is the place of the first in the file.

    Raises:
        FileFault: a column is damaged.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from datapipe.corpus.columns import checked_text, kept, records, sound

    assert options.media is not None
    column = media_column(part.schema, options)
    media, path = _parts(sound(part.column(column)))
    columns: dict[str, Any] = {options.media: media}
    if "path" in part.schema.names and column != "path" and _is_path(part.schema.field("path").type):
        path = part.column("path")
    n = part.num_rows
    columns["path"] = checked_text(path.cast(pa.large_binary()))[0] if path is not None else pa.nulls(n, _text())
    columns["label"] = part.column("label") if "label" in part.schema.names else pa.nulls(n, _text())
    columns |= {each: part.column(each) for each in part.schema.names if each not in columns and each != column}
    asked = tuple(dict.fromkeys([options.media, *MEDIA_COLUMNS, *(c for c in options.columns if c != column)]))
    whole = options.columns == ALL
    as_table = replace(options, media=None, columns=ALL if whole else asked)
    batch = records(pa.record_batch(columns), first_row, name, as_table)
    table = batch.table
    lengths = pc.binary_length(table.column(options.media))
    fits = pc.fill_null(pc.less_equal(lengths, options.max_row_bytes), False).to_numpy()
    if fits.all():
        return batch
    ids, sizes = table.column("row_id").to_pylist(), lengths.to_pylist()
    lost = tuple(
        Quarantined(row_id=row_id, reason=MISSING_MEDIA, detail=f"{column!r} holds no bytes")
        if size is None
        else Quarantined(row_id=row_id, reason=ROW_TOO_LARGE, detail=f"more than {options.max_row_bytes:,} bytes")
        for row_id, size, fit in zip(ids, sizes, fits.tolist(), strict=True)
        if not fit
    )
    left = {each: kept(table.column(each).combine_chunks(), fits) for each in table.column_names}
    return Batch(table=pa.table(left), quarantined=(*batch.quarantined, *lost))


def _parts(column: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    """(bytes: large_binary, path or None) of the column of media."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_struct(column.type):
        return column.cast(pa.large_binary()), None
    names = [column.type.field(place).name for place in range(column.type.num_fields)]
    path = pc.struct_field(column, "path") if "path" in names else None
    return pc.struct_field(column, "bytes").cast(pa.large_binary()), path


def _text() -> pa.DataType:
    import pyarrow as pa

    return pa.large_string()


def _is_struct(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if not pa.types.is_struct(kind):
        return False
    fields = {kind.field(place).name: kind.field(place).type for place in range(kind.num_fields)}
    if fields.keys() - {"bytes", "path"} or not _is_bytes(fields.get("bytes", pa.null())):
        return False
    path = fields.get("path", pa.string())
    return bool(_is_text(path) or pa.types.is_null(path))


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_path(kind: pa.DataType) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return _is_text(kind) or _is_bytes(kind) or bool(pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    from datapipe.corpus.columns import is_bytes

    return is_bytes(kind)
