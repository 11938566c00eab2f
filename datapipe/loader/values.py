"""From an Arrow array to the numbers of a column, flat, in one numpy array.

What enters: an array of one row group, and the column's plan. What leaves: numpy values, a view where Arrow's layout is
numpy's. Invariant: each value is the truth as the plan has it, or a LoaderError that names the column: a null becomes
what was asked for and never a silent zero, and no number is wrapped, cut or made infinite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from datapipe.errors import LoaderError
from datapipe.loader.column_types import Reading, dtype_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from datapipe.loader.columns import Column

    Flags = npt.NDArray[np.bool_]


def plain(array: pa.Array) -> pa.Array:
    """Without dictionary, run-end encoding, extension type or view."""
    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif isinstance(array, pa.DictionaryArray):
            array = array.dictionary_decode()
        elif isinstance(array, pa.RunEndEncodedArray):
            array = pc.run_end_decode(array)
        else:
            break
    # Arrow's kernels take and join views least well.
    if pt.is_string_view(array.type):
        return array.cast(pa.large_string())
    if pt.is_binary_view(array.type):
        return array.cast(pa.large_binary())
    if pt.is_list_view(array.type) or pt.is_large_list_view(array.type):
        # By hand: Arrow's own cast keeps the views' offsets, which need not be in order (pyarrow 26).
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        missing = array.is_null() if array.null_count else None
        return pa.LargeListArray.from_arrays(pa.array(offsets), array.flatten(), mask=missing)
    return array


def flat_values(array: pa.Array, column: Column) -> npt.NDArray[Any]:
    """The values of a column of numbers, flattened to one dimension, of dtype `column.source`.

    Raises:
        LoaderError: a null that nothing stands for, or a value that the delivered dtype cannot hold.
    """
    array, valid = _innermost(array, column)
    if column.reading is Reading.VALID:
        return np.ones(len(array), np.bool_) if valid is None else valid
    values = _numbers(array, column, valid)
    if len(values):
        told = values if valid is None else values[valid]
        if column.bounds is not None and len(told):
            _refuse_out_of_bounds(told, column, column.bounds)
        if column.overflows:
            _refuse_overflow(told, column)
    values = values.astype(column.stored, copy=False)
    if valid is None:
        return values
    return np.where(valid, values, np.array(column.fill).astype(column.stored))


def _innermost(array: pa.Array, column: Column) -> tuple[pa.Array, Flags | None]:
    """The array within fixed-size lists, and which of its values are there (None: all)."""
    valid: Flags | None = None
    while True:
        placed = column.reading is Reading.PLACE and isinstance(array, pa.DictionaryArray)
        if not placed:
            array = plain(array)
        if array.null_count:
            if column.fill is None and column.reading is not Reading.VALID:
                raise _refused_nulls(array.null_count, column)
            here = array.is_valid().to_numpy(zero_copy_only=False)
            valid = here if valid is None else valid & here
        if not pt.is_fixed_size_list(array.type):
            return array, valid
        size = array.type.list_size
        array = array.values.slice(array.offset * size, len(array) * size)
        if valid is not None:
            valid = np.repeat(valid, size)


def _numbers(array: pa.Array, column: Column, valid: Flags | None) -> npt.NDArray[Any]:
    if column.reading is Reading.PLACE:
        return _places(array, column, valid)
    if not len(array):
        return np.empty(0, column.stored)
    if column.reading is Reading.UNSCALED:
        return _unscaled(array, column, valid)
    if column.reading is Reading.DECIMAL:
        array = array.cast(pa.float64())
    start, end = array.offset, array.offset + len(array)
    buffer = array.buffers()[1]
    if pt.is_boolean(array.type):
        packed = np.frombuffer(buffer, np.uint8)[start // 8 : -(-end // 8)]
        return np.unpackbits(packed, bitorder="little")[start % 8 :][: end - start].view(np.bool_)
    dtype = f"i{array.type.bit_width // 8}" if pt.is_temporal(array.type) else dtype_of(array.type)
    return np.frombuffer(buffer, dtype, end)[start:]  # what follows may be no whole value


def _places(array: pa.Array, column: Column, valid: Flags | None) -> npt.NDArray[Any]:
    """The place of each value among those that may occur; any number where there is no value."""
    known = column.values
    assert known is not None
    if isinstance(array, pa.DictionaryArray):  # its few values are looked up, not its many rows
        found = pc.index_in(plain(array.dictionary).cast(known.type), value_set=known).take(array.indices)
    else:
        found = pc.index_in(array.cast(known.type), value_set=known)
    places: npt.NDArray[Any] = found.fill_null(-1).to_numpy(zero_copy_only=False)
    unknown = places < 0 if valid is None else (places < 0) & valid
    if unknown.any():
        raise LoaderError(
            f"column {column.name!r} holds {array[int(unknown.argmax())].as_py()!r}",
            expected="one of the values listed in dtypes: " + ", ".join(repr(each) for each in known[:8].to_pylist()),
            fix=f"add it to dtypes[{column.name!r}]",
        )
    return places


def _unscaled(array: pa.Array, column: Column, valid: Flags | None) -> npt.NDArray[np.int64]:
    """A decimal's digits as one whole number: its value times 10^scale."""
    nbytes = array.type.bit_width // 8
    if nbytes < 8:
        small = np.frombuffer(array.buffers()[1], np.int32)
        return small[array.offset : array.offset + len(array)].astype(np.int64)
    words = np.frombuffer(array.buffers()[1], np.int64).reshape(-1, nbytes // 8)
    words = words[array.offset : array.offset + len(array)]
    digits: npt.NDArray[np.int64] = np.ascontiguousarray(words[:, 0])
    # Little-endian words: those above the first repeat its sign, unless the number is longer.
    longer = (words[:, 1:] != (digits >> 63)[:, None]).any(axis=1)
    if valid is not None:
        longer &= valid
    if longer.any():
        raise LoaderError(
            f"column {column.name!r} holds {array[int(longer.argmax())].as_py()}",
            expected="digits that fit int64",
            fix=f'dtypes={{"{column.name}": "float64"}}',
        )
    return digits


def _refuse_out_of_bounds(values: npt.NDArray[Any], column: Column, bounds: tuple[int, int]) -> None:
    low, high = int(values.min()), int(values.max())
    if low < bounds[0] or high > bounds[1]:
        raise LoaderError(
            f"column {column.name!r} holds {low if low < bounds[0] else high}",
            expected=f"values that fit {column.out}",
            fix=f'dtypes={{"{column.name}": "{values.dtype}"}}',
        )


def _refuse_overflow(values: npt.NDArray[Any], column: Column) -> None:
    with np.errstate(over="ignore"):
        beyond = np.isinf(values.astype(column.dtype)) & np.isfinite(values)
    if beyond.any():
        raise LoaderError(
            f"column {column.name!r} holds {values[int(beyond.argmax())]}",
            expected=f"values that fit {column.out}",
            fix=f'dtypes={{"{column.name}": "float32"}} or "float64"',
        )


def _refused_nulls(count: int, column: Column) -> LoaderError:
    stand_in = '"nan" or a number' if column.out is not None and column.out.kind == "f" else "or a number"
    return LoaderError(
        f"column {column.name!r} holds {count} null(s)",
        expected=f"no nulls in a column that comes as {column.out}: there is no number that means missing",
        fix=f'nulls={{"{column.name}": "mask"}} (adds {column.name}_valid), {stand_in}; or fill or drop them in'
        ' preprocessing, leave the column out (columns=[...]), or use collate="arrow"',
    )
