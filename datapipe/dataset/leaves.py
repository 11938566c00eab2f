"""Which stored parts make up a column: schemas and names enter, numbers of Parquet leaves or Arrow buffers leave.

Invariant: a type whose layout is not known to the letter gives nothing here, and the caller reads everything instead.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.types as pt

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow.parquet as pq


def leaves_of(meta: pq.FileMetaData, columns: Sequence[str]) -> list[int]:
    """The numbers of the stored (leaf) columns that the named top-level columns are made of; a name may hold dots."""
    schema = meta.schema.to_arrow_schema()
    counts = [_leaves(field.type) for field in schema]
    if sum(counts) != meta.num_columns:
        return list(range(meta.num_columns))  # a type stored in an unforeseen way: read all, project afterwards
    names = set(columns)
    top = [field.name for field, n in zip(schema, counts, strict=True) for _ in range(n)]
    return [leaf for leaf, name in enumerate(top) if name in names]


def flat_leaves(meta: pq.FileMetaData, columns: Sequence[str]) -> dict[str, int]:
    """The stored column of each named column that is one value per row."""
    schema = meta.schema.to_arrow_schema()
    counts = [_leaves(field.type) for field in schema]
    if sum(counts) != meta.num_columns:
        return {}
    names = set(columns)
    starts = itertools.accumulate(counts, initial=0)
    return {
        field.name: leaf
        for field, leaf in zip(schema, starts, strict=False)
        if field.name in names and not pt.is_nested(field.type)
    }


def _leaves(kind: pa.DataType) -> int:
    if isinstance(kind, pa.BaseExtensionType):
        return _leaves(kind.storage_type)
    if pt.is_struct(kind):
        return sum(_leaves(kind.field(i).type) for i in range(kind.num_fields))
    if pt.is_map(kind):
        return _leaves(kind.key_type) + _leaves(kind.item_type)
    if isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType | pa.ListViewType | pa.LargeListViewType):
        return _leaves(kind.value_type)
    return 1


def buffers_of(schema: pa.Schema, columns: Sequence[str]) -> list[int] | None:
    """The numbers of the buffers of an Arrow record batch that the named columns lie in; None: not known.

    Buffers come column by column, parents before children (Columnar format, "RecordBatch message").
    """
    wanted: list[int] = []
    at = 0
    names = set(columns)
    for field in schema:
        count = _buffers(field.type)
        if count is None:
            return None
        if field.name in names:
            wanted += range(at, at + count)
        at += count
    return wanted


def _buffers(kind: pa.DataType) -> int | None:
    if isinstance(kind, pa.BaseExtensionType):
        return _buffers(kind.storage_type)
    if pt.is_null(kind):
        return 0
    if pt.is_dictionary(kind) or pt.is_primitive(kind) or pt.is_decimal(kind) or pt.is_fixed_size_binary(kind):
        return 2
    if pt.is_string(kind) or pt.is_binary(kind) or pt.is_large_string(kind) or pt.is_large_binary(kind):
        return 3
    children: list[pa.DataType]
    if pt.is_struct(kind):
        own, children = 1, [kind.field(i).type for i in range(kind.num_fields)]
    elif pt.is_map(kind):
        own, children = 3, [kind.key_type, kind.item_type]  # the list's two, and the entries' validity
    elif pt.is_list(kind) or pt.is_large_list(kind):
        own, children = 2, [kind.value_type]
    elif pt.is_fixed_size_list(kind):
        own, children = 1, [kind.value_type]
    else:
        return None  # views, unions, run ends: their number of buffers depends on the data, or on the version
    inner = [_buffers(child) for child in children]
    return None if None in inner else own + sum(n for n in inner if n is not None)
