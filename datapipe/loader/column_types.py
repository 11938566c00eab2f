"""Which numpy dtype holds the values of an Arrow type, and which dtypes they may be asked for as.

What enters: an Arrow type, and the dtype asked for. What leaves: how the values are read, and the dtypes of what is
read and of what is delivered. Invariant: pure functions of types; a cast that could lose a value's kind is refused,
and those that can overflow are told from those that cannot.
"""

from __future__ import annotations

import enum
from typing import Any, Final, final

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from datapipe.errors import ConfigError, SchemaError

_NUMBERS: Final = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"
_DTYPES: Final = {pa.from_numpy_dtype(np.dtype(name)).id: np.dtype(name) for name in _NUMBERS.split()}


@final
class Reading(enum.Enum):
    """Which number stands for an Arrow value.

    The stored one, a decimal's value or its digits, its place among given values, or whether there is a value.
    """

    STORED = "stored"
    DECIMAL = "decimal"
    UNSCALED = "unscaled"
    PLACE = "place"
    VALID = "valid"


def value_type(kind: pa.DataType) -> pa.DataType:
    """The type beneath dictionaries, run-end encoding and extensions."""
    while True:
        if pt.is_dictionary(kind) or pt.is_run_end_encoded(kind):
            kind = kind.value_type
        elif isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        else:
            return kind


def is_text(kind: pa.DataType) -> bool:
    """Strings and binary, of any width."""
    return bool(
        pt.is_string(kind)
        or pt.is_large_string(kind)
        or pt.is_string_view(kind)
        or pt.is_binary(kind)
        or pt.is_large_binary(kind)
        or pt.is_binary_view(kind)
        or pt.is_fixed_size_binary(kind)
    )


def is_list(kind: pa.DataType) -> bool:
    """Lists of any length."""
    return bool(pt.is_list(kind) or pt.is_large_list(kind) or pt.is_list_view(kind) or pt.is_large_list_view(kind))


def is_list_of_text(kind: pa.DataType) -> bool:
    """Lists of strings or binary, at any depth."""
    if not (is_list(kind) or pt.is_fixed_size_list(kind)):
        return False
    inner = value_type(kind.value_type)
    return is_text(inner) or is_list_of_text(inner)


def natural_dtype(name: str, declared: pa.DataType, kind: pa.DataType, wanted: Any) -> tuple[Reading, np.dtype[Any]]:
    """How the values of a type are read, and the numpy dtype that holds them all.

    Args:
        declared: the column's type; kind: of its values, beneath lists and dictionaries. wanted: the dtype asked for.

    Raises:
        SchemaError: no array can hold them. ConfigError: `wanted` is not for this type.
    """
    if isinstance(wanted, (list, tuple)):
        try:
            known = pa.array(wanted, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise ConfigError(f"dtypes[{name!r}]={wanted!r}: {error}", expected=f"values of {kind}") from None
        if not len(known) or known.null_count or len(known.unique()) < len(known):
            raise ConfigError(f"dtypes[{name!r}]={wanted!r}", expected="values, each once, and no None")
        return Reading.PLACE, np.dtype(np.int32)
    if isinstance(wanted, str) and wanted == "codes":
        raise ConfigError(
            f'dtypes[{name!r}]="codes"',
            expected="the values that the codes stand for, as each row group has a dictionary of its own",
            fix=f'list them: dtypes={{"{name}": ["a", "b", …]}}',
        )
    if pt.is_decimal(kind):
        if isinstance(wanted, str) and wanted == "unscaled":
            return Reading.UNSCALED, np.dtype(np.int64)
        if wanted is not None and wanted != "stored" and _is_float(wanted):
            return Reading.DECIMAL, np.dtype(np.float64)
        raise SchemaError(
            f"column {name!r} is {declared}" + (f", asked for as {wanted!r}" if wanted is not None else ""),
            expected="a word on what a decimal shall become",
            fix=f'dtypes={{"{name}": "float64"}} (the nearest double), or "unscaled" (int64, counting'
            f' 10^{-kind.scale}), or collate="arrow"',
        )
    natural = _numpy_dtype(kind)
    if natural is None:
        raise SchemaError(
            f"column {name!r} is {declared}",
            expected="numbers, booleans, dates and times, strings, binary, structs of these, or lists of numbers",
            fix=f'dtypes={{"{name}": "object"}} (Python objects, slow), open the dataset without it'
            ' (columns=[...]), or use collate="arrow"',
        )
    return Reading.STORED, natural


def _numpy_dtype(kind: pa.DataType) -> np.dtype[Any] | None:
    if pt.is_timestamp(kind) or pt.is_date(kind) or pt.is_time(kind) or pt.is_duration(kind):
        return np.dtype(f"i{kind.bit_width // 8}")
    if pt.is_boolean(kind) or pt.is_integer(kind) or pt.is_floating(kind):
        return dtype_of(kind)
    return None


def dtype_of(kind: pa.DataType) -> np.dtype[Any]:
    """The dtype of Arrow's booleans, integers and floats.

    Arrow's own `to_pandas_dtype` wants pandas installed, before 26.0. By number: for each column of each row group.
    """
    return _DTYPES[kind.id]


def _read_dtype(wanted: Any) -> np.dtype[Any] | None:
    try:
        return np.dtype(str(wanted).removeprefix("torch.") if not isinstance(wanted, (type, np.dtype)) else wanted)
    except TypeError:
        return None


def _is_float(wanted: Any) -> bool:
    read = _read_dtype(wanted)
    return read is not None and read.kind == "f"


def delivered_dtype(name: str, declared: pa.DataType, natural: np.dtype[Any], wanted: Any) -> np.dtype[Any]:
    """The dtype of a batch's values: the default, or the one asked for."""
    if wanted is None:
        return np.dtype(np.int64) if natural.kind in "iu" else natural
    if isinstance(wanted, str) and wanted == "stored":
        return natural
    out = _read_dtype(wanted)
    if out is None:
        raise ConfigError(f"dtypes[{name!r}]={wanted!r}", expected='the name of a dtype, such as "int32" or "float32"')
    if out.kind not in "iufb" or not (np.can_cast(natural, out, "same_kind") or {natural.kind, out.kind} <= {"i", "u"}):
        raise ConfigError(
            f"dtypes[{name!r}]={wanted!r}",
            expected=f"a dtype that {declared} can become without losing its kind",
            fix="convert it in a transform",
        )
    return out


def holds(dtype: np.dtype[Any], value: float) -> bool:
    """Whether a dtype has this value."""
    if dtype.kind == "f":
        return True
    if dtype.kind == "b":
        return value in {0, 1}
    return float(value).is_integer() and int(np.iinfo(dtype).min) <= value <= int(np.iinfo(dtype).max)


def bounds_in(source: np.dtype[Any], out: np.dtype[Any]) -> tuple[int, int] | None:
    """The least and the largest whole number of `out`, where `source` may have others; else None."""
    if source.kind not in "iu" or out.kind not in "iu" or np.can_cast(source, out, "safe"):
        return None
    limits = np.iinfo(out)
    return int(limits.min), int(limits.max)


def overflows_in(source: np.dtype[Any], out: np.dtype[Any]) -> bool:
    """Whether a finite value of `source` may be infinite in `out`."""
    if out.kind != "f" or source.kind not in "iuf":
        return False
    limits = np.finfo(source) if source.kind == "f" else np.iinfo(source)
    return float(limits.max) > float(np.finfo(out).max)
