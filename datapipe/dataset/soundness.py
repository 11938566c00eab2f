"""Offsets and indices of decoded columns: a table enters, an error leaves where one would lead out of its memory.

Invariant: after a check nothing that follows offsets or indices reads what is not the column's. Whether text is UTF-8
is not asked: that takes as long as decoding it (1.6 GB/s where it is not ASCII), Arrow's functions bear it, and whoever
makes strings of it finds out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

if TYPE_CHECKING:
    from collections.abc import Iterator

_AS_BYTES: Final = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}


def check_stored(table: pa.Table) -> None:
    """Refuse what an Arrow file may hold: its buffers are taken as they lie. µs, but for what has an offset a value.

    Raises:
        ValueError, pa.ArrowException: offsets or indices lead elsewhere.
    """
    for chunk in _chunks(table):
        chunk.validate()  # before it is seen as another type
        if pt.is_dictionary(chunk.type):
            _check_indices(chunk)
        else:
            as_bytes = _AS_BYTES.get(chunk.type)
            (chunk if as_bytes is None else chunk.view(as_bytes)).validate(full=True)


def check_decoded(table: pa.Table) -> None:
    """Refuse what a Parquet file may: Arrow makes its offsets itself, and takes a dictionary's indices as they are.

    Raises:
        ValueError, pa.ArrowException: indices lead elsewhere.
    """
    for field, column in zip(table.schema, table.itercolumns(), strict=True):
        if pt.is_dictionary(field.type):
            for chunk in column.chunks:
                _check_indices(chunk)
        elif pt.is_nested(field.type) and "dictionary<" in str(field.type):
            column.validate(full=True)


def _chunks(table: pa.Table) -> Iterator[pa.Array]:
    for field, column in zip(table.schema, table.itercolumns(), strict=True):
        try:
            chunks = column.chunks
        except KeyError:  # Arrow's own lookup of the class: intervals of months and of days have none
            raise ValueError(f"column {field.name!r} is of a type that has no values in Python") from None
        yield from chunks


def _check_indices(chunk: pa.DictionaryArray) -> None:
    chunk.dictionary.validate()
    as_bytes = _AS_BYTES.get(chunk.dictionary.type)
    if as_bytes is not None:
        chunk.dictionary.view(as_bytes).validate(full=True)
    else:
        chunk.dictionary.validate(full=True)
    bounds = pc.min_max(chunk.indices).as_py()
    if bounds["max"] is not None and not 0 <= bounds["min"] <= bounds["max"] < len(chunk.dictionary):
        wrong = bounds["min"] if bounds["min"] < 0 else bounds["max"]
        raise ValueError(f"index {wrong} into a dictionary of {len(chunk.dictionary)}")
