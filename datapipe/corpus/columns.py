"""A record batch of a columnar file enters; a batch of rows, and what could not be one, leaves.

Invariant: every row comes out once: taken, or quarantined with its reason. Text that leaves is valid UTF-8, whatever
the file says of itself: Arrow and Parquet do not check it, and what reads it later would crash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datapipe.corpus.file_fault import FileFault
from datapipe.corpus.media_columns import media_records, media_wanted
from datapipe.corpus.piece import Batch, Quarantined
from datapipe.corpus.reasons import DAMAGED_FILE, MISSING_ID, MISSING_TEXT, NO_COLUMNS, NO_TEXT_COLUMN, ROW_TOO_LARGE
from datapipe.corpus.utf8 import decode_counting

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.corpus.options import ReadOptions


def wanted(schema: pa.Schema, options: ReadOptions) -> list[str]:
    """The columns to read.

    Raises:
        FileFault: there is no text column, or it holds neither text nor bytes.
    """
    import pyarrow as pa

    names = schema.names
    if options.media is not None:
        return media_wanted(schema, options)
    if options.text_column is None:
        found = [name for name in options.named(names) if names.count(name) == 1]
        if not found:
            raise FileFault(NO_COLUMNS, f"none of the columns asked for; it has {', '.join(map(repr, names[:12]))}")
        own = options.id_column
        return [*found, own] if own is not None and names.count(own) == 1 and own not in found else found
    if names.count(options.text_column) != 1:
        shown = ", ".join(repr(name) for name in names[:12])
        raise FileFault(NO_TEXT_COLUMN, f"no one column {options.text_column!r}; it has {shown}")
    kind = schema.field(options.text_column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (_is_text(kind) or is_bytes(kind) or pa.types.is_null(kind)):
        raise FileFault(NO_TEXT_COLUMN, f"{options.text_column!r} is {kind}, neither text nor bytes")
    asked = dict.fromkeys([options.text_column, options.id_column, *options.columns])
    return [name for name in asked if name is not None and names.count(name) == 1]


def batches_of(batch: pa.RecordBatch, first_row: int, name: str, options: ReadOptions) -> Iterator[Batch]:
    """Batches within the bound in bytes; `first_row` is the batch's place in the file.

    Raises:
        FileFault: the columns are damaged.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if batch.num_rows == 0:
        return
    try:
        batch.validate()  # before its size is asked for, which follows the offsets of lists
    except (pa.ArrowInvalid, pa.ArrowIndexError) as error:
        raise FileFault(DAMAGED_FILE, str(error)) from None
    if options.text_column is None:
        each = max(1, options.max_batch_bytes // max(1, batch.nbytes // batch.num_rows))
        for start in range(0, batch.num_rows, each):
            part = batch.slice(start, each)
            rows = records if options.media is None else media_records
            yield rows(part, first_row + start, name, options)
        return
    values, indices, raw = _as_bytes(batch.column(options.text_column))
    lengths = pc.binary_length(values)
    lengths = lengths if indices is None else lengths.take(indices)
    sizes = pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    # Cut where the running sum passes a multiple of the bound: a longer row has a batch of its own.
    bounds = np.searchsorted(
        np.cumsum(sizes), np.arange(options.max_batch_bytes, int(sizes.sum()) + 1, options.max_batch_bytes), "right"
    )
    edges = np.unique(np.concatenate([[0], bounds, [batch.num_rows]]))
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = batch.slice(start, stop - start)
        yield _batch(
            part,
            # A dictionary is spelled out part by part: all of it may be a thousand times the file.
            values.slice(start, stop - start) if indices is None else values.take(indices.slice(start, stop - start)),
            pa.array(sizes[start:stop]),
            first_row + start,
            name,
            options,
            raw=raw,
        )


def records(part: pa.RecordBatch, first_row: int, name: str, options: ReadOptions) -> Batch:
    """Rows of a table: the columns as they are, and an id for each."""
    import numpy as np
    import pyarrow as pa

    own_ids = _ids(part, options)
    positions = [f"{name}:{row}" for row in range(first_row, first_row + part.num_rows)]
    quarantined: tuple[Quarantined, ...] = ()
    keep = np.ones(part.num_rows, bool)
    if own_ids is not None:
        keep = np.array([row_id is not None for row_id in own_ids])
        detail = f"no value for {options.id_column!r}"
        lost = (positions[row] for row in np.flatnonzero(~keep).tolist())
        quarantined = tuple(Quarantined(row_id=each, reason=MISSING_ID, detail=detail) for each in lost)
    ids = [row_id for row_id, kept in zip(own_ids or positions, keep.tolist(), strict=True) if kept]
    columns: dict[str, Any] = {"row_id": pa.array(ids, pa.string())}
    names = part.schema.names
    for column in options.named(each for each in names if names.count(each) == 1):
        has = names.count(column) == 1
        columns[column] = kept(sound(part.column(column)), keep) if has else pa.nulls(len(ids))
    return Batch(table=pa.table(columns), quarantined=quarantined)


def _batch(
    part: pa.RecordBatch,
    data: pa.Array,
    sizes: pa.Array,
    first_row: int,
    name: str,
    options: ReadOptions,
    *,
    raw: bool,
) -> Batch:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    own_ids = _ids(part, options)
    positions = [f"{name}:{row}" for row in range(first_row, first_row + part.num_rows)]
    ids = own_ids or positions
    quarantined: list[Quarantined] = []
    keep = np.ones(part.num_rows, bool)

    def put_aside(rows: Any, reason: str, detail: str) -> None:
        quarantined.extend(
            Quarantined(row_id=ids[row] or positions[row], reason=reason, detail=detail)
            for row in np.flatnonzero(rows & keep).tolist()
        )
        keep[rows] = False

    if own_ids is not None:
        put_aside(np.array([row_id is None for row_id in own_ids]), MISSING_ID, f"no value for {options.id_column!r}")
    put_aside(data.is_null().to_numpy(zero_copy_only=False), MISSING_TEXT, f"{options.text_column!r} is null")
    put_aside(
        pc.greater(sizes, options.max_row_bytes).to_numpy(zero_copy_only=False),
        ROW_TOO_LARGE,
        f"more than {options.max_row_bytes:,} bytes",
    )
    if not keep.all():
        data = data.filter(pa.array(keep))
        ids = [row_id for row_id, kept in zip(ids, keep.tolist(), strict=True) if kept]
    columns: dict[str, Any] = {
        "row_id": pa.array(ids, pa.string()),
        "media_type": pa.repeat(pa.scalar(options.media_type, pa.string()), len(ids)),
    }
    if raw:
        columns["raw"] = data
    else:
        columns["text"], columns["bad_bytes"] = checked_text(data)
    for column in options.columns:
        has = part.schema.names.count(column) == 1
        columns[column] = kept(sound(part.column(column)), keep) if has else pa.nulls(len(ids))
    return Batch(table=pa.table(columns), quarantined=tuple(quarantined))


def kept(column: pa.Array, keep: npt.NDArray[np.bool_]) -> pa.Array:
    """The values of a column for which `keep` is true."""
    import pyarrow as pa

    if keep.all():
        return column
    try:
        return column.filter(pa.array(keep))
    except pa.ArrowNotImplementedError:  # views, also nested ones, cannot be filtered
        return pa.array([v for v, kept in zip(column.to_pylist(), keep.tolist(), strict=True) if kept], column.type)


def _ids(part: pa.RecordBatch, options: ReadOptions) -> list[str | None] | None:
    if options.id_column is None:
        return None
    if part.schema.names.count(options.id_column) != 1:
        return [None] * part.num_rows
    from datapipe.corpus.json_row import as_text

    values = sound(part.column(options.id_column)).to_pylist()
    return [None if v is None else as_text(v) if isinstance(v, str | int | float | bool) else str(v) for v in values]


def sound(column: pa.Array) -> pa.Array:
    """A further column as it is, where it is sound: one that is not could crash whoever reads it."""
    import pyarrow as pa

    try:
        column.validate(full=True)
    except (pa.ArrowInvalid, pa.ArrowIndexError) as error:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not _is_text(kind):
            raise FileFault(DAMAGED_FILE, str(error)) from None
        values, indices, _ = _as_bytes(column)
        return checked_text(values if indices is None else values.take(indices))[0].cast(kind)
    return column


def _as_bytes(column: pa.Array) -> tuple[pa.Array, pa.Array | None, bool]:
    """A column of text or bytes as (values: large_binary, indices into them or None, whether it was of bytes)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    indices = None
    try:
        column.validate()
        if pa.types.is_dictionary(column.type):
            indices, column = column.indices, column.dictionary
            indices.validate(full=True)
            if len(indices) and (pc.max(indices).as_py() or 0) >= len(column):
                raise FileFault(DAMAGED_FILE, "a dictionary index lies beyond its dictionary")
        raw = is_bytes(column.type)
        if pa.types.is_null(column.type):
            return pa.nulls(len(column), pa.large_binary()), indices, False
        if pa.types.is_string_view(column.type):
            column = column.view(pa.binary_view())
            column.validate(full=True)  # before the cast, which follows its pointers
        values = column.cast(pa.large_binary())
        values.validate(full=True)  # every offset lies within the data
    except (pa.ArrowInvalid, pa.ArrowIndexError) as error:
        raise FileFault(DAMAGED_FILE, str(error)) from None
    return values, indices, raw


def checked_text(data: pa.Array) -> tuple[pa.Array, pa.Array]:
    """(text: large_string, bad_bytes: int32) of a large_binary array; what is null stays null."""
    import pyarrow as pa

    try:
        return data.cast(pa.large_string()), pa.array([0] * len(data), pa.int32())
    except pa.ArrowInvalid:
        pairs = [(None, 0) if value is None else decode_counting(value) for value in data.to_pylist()]
        return pa.array([t for t, _ in pairs], pa.large_string()), pa.array([n for _, n in pairs], pa.int32())


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Whether values of a type are bytes, whatever the layout."""
    import pyarrow as pa

    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )
