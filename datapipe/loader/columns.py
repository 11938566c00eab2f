"""What becomes of each column: from an Arrow schema to the arrays of a batch.

What enters: the schema, and `dtypes=`. What leaves: one `Column` each. Invariant: decided once, before any row is
read; a type that cannot be delivered is refused here, by name, and no value is ever changed silently.

    integers → int64; floats and booleans → as they are
    dates, times, timestamps, durations → int64, counting the type's own unit (since 1970, or midnight)
    fixed-size lists of these → [B, n]; variable-length lists → padded [B, max] and <name>_lengths [B]
    strings and binary → Python lists; dictionary columns → as their values
"""

from __future__ import annotations

import difflib
import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from datapipe.errors import ConfigError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping


@final
class Kind(enum.Enum):
    """How a column is gathered: by address, by padding, or as Python objects."""

    FIXED = "fixed"
    RAGGED = "ragged"
    OBJECTS = "objects"


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """One column's plan.

    Attributes:
        source: numpy dtype of the stored values; out: of the delivered ones (None for objects).
        shape: of one row's values: () for scalars, (n,) for fixed-size lists.
        bounds: smallest and largest value that `out` can hold, where stored whole numbers may exceed it.
        overflows: a finite stored value may be infinite in `out`.
    """

    name: str
    kind: Kind
    source: np.dtype[Any] | None = None
    out: np.dtype[Any] | None = None
    shape: tuple[int, ...] = ()
    bounds: tuple[int, int] | None = None
    overflows: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """`out`, for a column of numbers."""
        assert self.out is not None
        return self.out


_TIME: Final = (pt.is_timestamp, pt.is_date, pt.is_time, pt.is_duration)


def plan_columns(
    schema: pa.Schema, dtypes: Mapping[str, Any] | None = None, *, narrow: bool = False
) -> tuple[Column, ...]:
    """Plan every column of `schema`.

    Args:
        dtypes: column → dtype wanted (a name such as "int32", a numpy or a torch dtype) in place of the default.
        narrow: integers stay as stored, for a device that widens them itself.

    Raises:
        SchemaError: a column's type cannot be delivered as an array or a list.
        ConfigError: `dtypes` names no column, no dtype, or one that its column cannot become.
    """
    wanted = dict(dtypes or {})
    for name in wanted:
        if name not in schema.names:
            near = difflib.get_close_matches(name, schema.names, n=1)
            raise ConfigError(
                f"dtypes names a column {name!r} that the dataset has not",
                expected=", ".join(schema.names),
                fix=f"did you mean {near[0]!r}?" if near else None,
            )
    columns = tuple(_plan(field, wanted.get(field.name), narrow) for field in schema)
    names = set(schema.names)
    for column in columns:
        if column.kind is Kind.RAGGED and f"{column.name}_lengths" in names:
            raise SchemaError(
                f"column {column.name!r} needs the name {column.name}_lengths, which another column has",
                fix="open the dataset without one of them: columns=[...]",
            )
    return columns


def value_type(kind: pa.DataType) -> pa.DataType:
    """The type beneath dictionaries and extensions."""
    while True:
        if pt.is_dictionary(kind):
            kind = kind.value_type
        elif isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        else:
            return kind


def _plan(field: pa.Field, wanted: Any, narrow: bool) -> Column:
    kind = value_type(field.type)
    if _is_text(kind):
        if wanted is not None:
            raise ConfigError(f"dtypes[{field.name!r}]={wanted!r}", expected=f"none: {field.type} comes as a list")
        return Column(name=field.name, kind=Kind.OBJECTS)
    shape: tuple[int, ...] = ()
    how = Kind.FIXED
    if pt.is_list(kind) or pt.is_large_list(kind):
        how, kind = Kind.RAGGED, value_type(kind.value_type)
    else:
        while pt.is_fixed_size_list(kind):
            shape = (*shape, kind.list_size)
            kind = value_type(kind.value_type)
    source = _numpy_dtype(kind)
    if source is None:
        raise SchemaError(
            f"column {field.name!r} is {field.type}",
            expected="numbers, booleans, dates and times, strings, binary, or lists of numbers",
            fix='open the dataset without it (columns=[...]), or use collate="arrow"',
        )
    out = _wanted_dtype(field, source, wanted)
    if narrow and wanted is None and np.can_cast(source, out):
        out = source
    return Column(
        name=field.name, kind=how, source=source, out=out, shape=shape,
        bounds=_bounds(source, out), overflows=_overflows(source, out),
    )  # fmt: skip


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pt.is_string(kind)
        or pt.is_large_string(kind)
        or pt.is_string_view(kind)
        or pt.is_binary(kind)
        or pt.is_large_binary(kind)
        or pt.is_binary_view(kind)
        or pt.is_fixed_size_binary(kind)
    )


def _numpy_dtype(kind: pa.DataType) -> np.dtype[Any] | None:
    if any(is_time(kind) for is_time in _TIME):
        return np.dtype(f"i{kind.bit_width // 8}")
    if pt.is_boolean(kind) or pt.is_integer(kind) or pt.is_floating(kind):
        found: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
        return found
    return None


def _wanted_dtype(field: pa.Field, source: np.dtype[Any], wanted: Any) -> np.dtype[Any]:
    if wanted is None:
        return np.dtype(np.int64) if source.kind in "iu" else source
    try:
        out = np.dtype(str(wanted).removeprefix("torch.") if not isinstance(wanted, type) else wanted)
    except TypeError:
        raise ConfigError(
            f"dtypes[{field.name!r}]={wanted!r}", expected='the name of a dtype, such as "int32" or "float32"'
        ) from None
    if out.kind not in "iufb" or not (np.can_cast(source, out, "same_kind") or {source.kind, out.kind} <= {"i", "u"}):
        raise ConfigError(
            f"dtypes[{field.name!r}]={wanted!r}",
            expected=f"a dtype that {field.type} can become without losing its kind",
            fix="convert it in a transform",
        )
    return out


def _bounds(source: np.dtype[Any], out: np.dtype[Any]) -> tuple[int, int] | None:
    if source.kind not in "iu" or out.kind not in "iu" or np.can_cast(source, out, "safe"):
        return None
    limits = np.iinfo(out)
    return int(limits.min), int(limits.max)


def _overflows(source: np.dtype[Any], out: np.dtype[Any]) -> bool:
    if out.kind != "f" or source.kind not in "iuf":
        return False
    limits = np.finfo(source) if source.kind == "f" else np.iinfo(source)
    return float(limits.max) > float(np.finfo(out).max)
