"""One row group in memory, checked, with the address of each fixed-width column.

What enters: a decoded Arrow table and the column plan. What leaves: a `Block`. Invariant: a value that cannot be
delivered truthfully (a null in a numeric column, a number beyond the wanted dtype) stops here with the column's
name; after this, gathering cannot fail on data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from datapipe.errors import LoaderError
from datapipe.loader.columns import Column, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


@final
class Block:
    """A decoded row group.

    Attributes:
        rows: how many. nbytes: memory it holds.
        addresses: of the first value of each FIXED column, in plan order; valid while the block is referenced.
        arrays: column name → pa.Array, for the columns that are gathered by Arrow.
    """

    __slots__ = ("_keep", "addresses", "arrays", "nbytes", "rows")

    def __init__(self, table: pa.Table, columns: Sequence[Column] | None) -> None:
        """`columns` None: everything stays Arrow."""
        self.rows = table.num_rows
        self.nbytes = table.nbytes
        self.arrays: dict[str, pa.Array] = {}
        self.addresses: list[int] = []
        self._keep: list[Any] = []
        if columns is None:
            for name in table.column_names:
                self.arrays[name] = _one_chunk(table.column(name))
            return
        for column in columns:
            array = plain(_one_chunk(table.column(column.name)))
            if column.kind is Kind.OBJECTS:
                self.arrays[column.name] = array
            elif column.kind is Kind.RAGGED:
                flat_values(array.flatten() if not array.null_count else array, column)
                self.arrays[column.name] = array
            else:
                values = flat_values(array, column)
                address = int(values.__array_interface__["data"][0])
                if address % values.itemsize:  # a writer that does not align; numpy gathers aligned values only
                    values = values.copy()
                    address = int(values.__array_interface__["data"][0])
                self._keep.append(values)
                self.addresses.append(address)


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def plain(array: pa.Array) -> pa.Array:
    """Without dictionary or extension type."""
    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif isinstance(array, pa.DictionaryArray):
            array = array.dictionary_decode()
        else:
            break
    # Arrow's kernels take and join views least well.
    if pt.is_string_view(array.type):
        return array.cast(pa.large_string())
    return array.cast(pa.large_binary()) if pt.is_binary_view(array.type) else array


def flat_values(array: pa.Array, column: Column) -> npt.NDArray[Any]:
    """The values of a column of numbers, flattened to one dimension: a view where Arrow's layout is numpy's.

    Raises:
        LoaderError: a null, or a value out of the wanted dtype's range.
    """
    while True:
        _refuse_nulls(array, column)
        if not pt.is_fixed_size_list(array.type):
            break
        size = array.type.list_size
        array = plain(array.values.slice(array.offset * size, len(array) * size))
    assert column.source is not None
    values: npt.NDArray[Any]
    if pt.is_boolean(array.type):
        values = array.to_numpy(zero_copy_only=False)
    elif len(array) == 0:
        values = np.empty(0, column.source)
    else:
        values = np.frombuffer(array.buffers()[1], column.source)[array.offset : array.offset + len(array)]
    if column.bounds is not None and len(values):
        low, high = int(values.min()), int(values.max())
        if low < column.bounds[0] or high > column.bounds[1]:
            raise LoaderError(
                f"column {column.name!r} holds {low if low < column.bounds[0] else high}",
                expected=f"values that fit {column.out}",
                fix=f'dtypes={{"{column.name}": "{column.source}"}}',
            )
    if column.overflows:
        _refuse_overflow(values, column)
    return values


def _refuse_overflow(values: npt.NDArray[Any], column: Column) -> None:
    with np.errstate(over="ignore"):
        beyond = np.isinf(values.astype(column.dtype)) & np.isfinite(values)
    if beyond.any():
        raise LoaderError(
            f"column {column.name!r} holds {values[int(beyond.argmax())]}",
            expected=f"values that fit {column.out}",
            fix=f'dtypes={{"{column.name}": "float32"}} or "float64"',
        )


def _refuse_nulls(array: pa.Array, column: Column) -> None:
    if array.null_count:
        raise LoaderError(
            f"column {column.name!r} holds {array.null_count} null(s)",
            expected="no nulls in a numeric column: there is no number that means missing",
            fix='fill or drop them in preprocessing, leave the column out (columns=[...]), or use collate="arrow"',
        )
