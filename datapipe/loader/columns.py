"""What becomes of each column: from an Arrow schema to the arrays of a batch.

What enters: the schema, `dtypes=` and `nulls=`. What leaves: one `Column` for each array or list of a batch. Invariant:
decided once, before any row is read; a type that cannot be delivered is refused here, by name, and no value is ever
changed silently.

    integers → int64; floats and booleans → as they are
    dates, times, timestamps, durations → int64, counting the type's own unit (since 1970, or midnight)
    decimals → by request: "float64", or "unscaled" (int64, counting 10^-scale)
    fixed-size lists of these → [B, n]; variable-length lists → padded [B, max] and <name>_lengths [B]
    Arrow's fixed-shape tensors → [B, *shape]; those stored permuted → [B, n]
    strings, binary and lists of them → Python lists
    structs → their fields, as columns "struct.field"
    dictionary and run-end encoded columns → as their values; with a list of the values as dtype, their places in it
    anything else → Python objects, by request: "object"
"""

from __future__ import annotations

import difflib
import enum
import functools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, final

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from datapipe.errors import ConfigError, SchemaError
from datapipe.loader.column_types import (
    Reading,
    bounds_in,
    delivered_dtype,
    holds,
    is_list,
    is_list_of_text,
    is_text,
    natural_dtype,
    overflows_in,
    value_type,
)
from datapipe.loader.null_policy import NullPolicy
from datapipe.loader.row_matrix import RowLayout
from datapipe.loader.values import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


MAX_TOGETHER: Final = 64
"""Bytes of a row's values up to which a column is kept beside others, row by row: one cache line."""
_LEAST_TOGETHER: Final = 4
"""Fewer columns than this are gathered as fast one by one."""


@final
class Kind(enum.Enum):
    """How a column is gathered: by address, by padding, as strings, or as Python objects."""

    FIXED = "fixed"
    RAGGED = "ragged"
    TEXT = "text"
    OBJECTS = "objects"


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """One column's plan.

    Attributes:
        path: the stored column, and the fields of structs that lead to the values.
        source: numpy dtype of the values in a block; out: of the delivered ones (None for text and objects).
        shape: of one row's values: () for scalars, (n,) for fixed-size lists; within a variable-length list, of one
            element.
        bounds: smallest and largest value that `out` can hold, where stored whole numbers may exceed it.
        overflows: a finite stored value may be infinite in `out`.
        fill: what stands for a null; None: a null is refused.
        values: for `Reading.PLACE`, the values that may occur.
        together: kept row by row with other such columns (see `datapipe.loader.row_matrix`).
    """

    name: str
    kind: Kind
    path: tuple[str, ...] = ()
    source: np.dtype[Any] | None = None
    out: np.dtype[Any] | None = None
    shape: tuple[int, ...] = ()
    bounds: tuple[int, int] | None = None
    overflows: bool = False
    reading: Reading = Reading.STORED
    fill: float | None = None
    values: pa.Array | None = None
    together: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """`out`, for a column of numbers."""
        assert self.out is not None
        return self.out

    @property
    def stored(self) -> np.dtype[Any]:
        """`source`, for a column of numbers."""
        assert self.source is not None
        return self.source

    @property
    def width(self) -> int:
        """Values of a row (of an element, in a variable-length list)."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of a row's values in a block."""
        return self.width * self.stored.itemsize


@final
class ColumnPlan(tuple[Column, ...]):  # noqa: SLOT001  (it remembers its layout)
    """The columns of a batch, in order.

    Attributes:
        contiguous: each array is contiguous, also of columns that are kept together.
    """

    contiguous = False

    @functools.cached_property
    def layout(self) -> RowLayout | None:
        """Where those columns stand that are kept together, if there are any."""
        beside = [column for column in self if column.together]
        return RowLayout(beside, contiguous=self.contiguous) if beside else None

    def __reduce__(self) -> Any:
        return ColumnPlan, (tuple(self),), {"contiguous": self.contiguous}


@dataclass(frozen=True, kw_only=True)
class ColumnOptions:
    """What a user asked of columns.

    Args:
        dtypes: column → what its values shall be: a dtype (a name such as "int32", a numpy or torch dtype), "stored"
            (integers as they are stored), "unscaled", "object", or a list of all values that occur, of which the
            places are delivered. "stored" alone: of all columns.
        nulls: see `datapipe.loader.null_policy`.
    """

    dtypes: Mapping[str, Any] | Literal["stored"] | None = None
    nulls: Any = "refuse"
    _policy: NullPolicy = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.dtypes is not None and self.dtypes != "stored" and not hasattr(self.dtypes, "items"):
            raise ConfigError(f"dtypes={self.dtypes!r}", expected='a mapping of column to dtype, or "stored"')
        object.__setattr__(self, "_policy", NullPolicy(self.nulls))

    @property
    def given(self) -> str:
        """Which of the options says anything; empty if none does."""
        return "dtypes" if self.dtypes else "" if self._policy.refuses_all else "nulls"

    def plan(self, schema: pa.Schema, *, narrow: bool = False, together: bool = False) -> ColumnPlan:
        """`plan_columns` with these options."""
        return plan_columns(schema, self.dtypes, nulls=self._policy, narrow=narrow, together=together)

    def of(self, schema: pa.Schema) -> ColumnOptions:
        """Those that concern columns of this schema: a transform may have taken some away."""
        names = {leaf.name for leaf in _leaves(schema)}
        dtypes = self.dtypes
        if dtypes is not None and not isinstance(dtypes, str):
            dtypes = {name: value for name, value in dtypes.items() if name in names}
        return ColumnOptions(dtypes=dtypes, nulls=self._policy.among(names))


@dataclass(frozen=True, kw_only=True)
class _Leaf:
    """A column after structs were opened."""

    name: str
    path: tuple[str, ...]
    declared: pa.DataType


def plan_columns(
    schema: pa.Schema,
    dtypes: Mapping[str, Any] | Literal["stored"] | None = None,
    *,
    nulls: Any = "refuse",
    narrow: bool = False,
    together: bool = False,
) -> ColumnPlan:
    """Plan every column of `schema`.

    Args:
        dtypes, nulls: see `ColumnOptions`.
        narrow: numbers that a wider dtype holds exactly stay as stored, for a device that casts them itself.
        together: rows come in random order: many small columns are kept row by row.

    Raises:
        SchemaError: a column's type cannot be delivered as an array or a list, or two columns need the same name.
        ConfigError: an option names no column, or what its column cannot become.
    """
    leaves = list(_leaves(schema))
    names = [leaf.name for leaf in leaves]
    wanted: dict[str, Any] = {} if dtypes is None else dict.fromkeys(names) if isinstance(dtypes, str) else {**dtypes}
    policy = nulls if isinstance(nulls, NullPolicy) else NullPolicy(nulls)
    for option, given in (("dtypes", wanted), ("nulls", policy.named)):
        for name in given:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                raise ConfigError(
                    f"{option} names a column {name!r} that the dataset has not",
                    expected=", ".join(names),
                    fix=f"did you mean {near[0]!r}?" if near else None,
                )
    columns: list[Column] = []
    for leaf in leaves:
        how = "stored" if isinstance(dtypes, str) else wanted.get(leaf.name)
        columns += _plan(leaf, how, policy, narrow)
    _check_names(columns)
    small = [column for column in columns if column.kind is Kind.FIXED and 0 < column.nbytes <= MAX_TOGETHER]
    if together and len(small) >= _LEAST_TOGETHER:
        beside = {id(column) for column in small}
        columns = [replace(column, together=True) if id(column) in beside else column for column in columns]
    return ColumnPlan(columns)


def _leaves(schema: pa.Schema) -> Iterator[_Leaf]:
    def opened(name: str, path: tuple[str, ...], kind: pa.DataType) -> Iterator[_Leaf]:
        inner = value_type(kind)
        if pt.is_struct(inner) and inner.num_fields:
            for each in (inner.field(i) for i in range(inner.num_fields)):
                yield from opened(f"{name}.{each.name}", (*path, each.name), each.type)
        else:
            yield _Leaf(name=name, path=path, declared=kind)

    for each in schema:
        yield from opened(each.name, (each.name,), each.type)


def _check_names(columns: list[Column]) -> None:
    taken: dict[str, str] = {}
    for column in columns:
        path = ".".join(column.path)
        for name in (column.name, f"{column.name}_lengths") if column.kind is Kind.RAGGED else (column.name,):
            # The mask of a list column shares the list's lengths.
            if name in taken and not (column.reading is Reading.VALID and name.endswith("_lengths")):
                raise SchemaError(
                    f"column {path!r} needs the name {name}, which column {taken[name]!r} has",
                    fix="open the dataset without one of them: columns=[...]",
                )
            taken[name] = path


def _plan(leaf: _Leaf, wanted: Any, policy: NullPolicy, narrow: bool) -> list[Column]:
    kind = value_type(leaf.declared)
    categories = isinstance(wanted, (list, tuple))
    if wanted == "object" or (is_list_of_text(kind) and not categories):
        _refuse_dtype(leaf, None if wanted in {"object", "stored"} else wanted)
        return [Column(name=leaf.name, path=leaf.path, kind=Kind.OBJECTS)]
    if is_text(kind) and not categories:
        _refuse_dtype(leaf, None if wanted == "stored" else wanted)
        policy.refuse_for(leaf.name, "None marks a missing string already")
        return [Column(name=leaf.name, path=leaf.path, kind=Kind.TEXT)]
    shape: tuple[int, ...] = ()
    how = Kind.FIXED
    if is_list(kind):
        how, kind = Kind.RAGGED, value_type(kind.value_type)
    while pt.is_fixed_size_list(kind):
        shape = (*shape, kind.list_size)
        kind = value_type(kind.value_type)
    tensor = leaf.declared
    if isinstance(tensor, pa.FixedShapeTensorType) and sorted(axes := tensor.permutation or []) == axes:
        shape = tuple(tensor.shape)
    reading, natural = natural_dtype(leaf.name, leaf.declared, kind, wanted)
    # Places and digits are whole numbers of their own: what was asked for is said already.
    asked = wanted if reading in {Reading.STORED, Reading.DECIMAL} else None
    out = delivered_dtype(leaf.name, leaf.declared, natural, asked)
    choice = policy.choice(leaf.name, out)
    if narrow and np.can_cast(natural, out, "safe") and (choice.fill is None or holds(natural, choice.fill)):
        out = natural
    source = natural
    if choice.fill is not None and not holds(natural, choice.fill):
        source = out
    column = Column(
        name=leaf.name, path=leaf.path, kind=how, source=source, out=out, shape=shape,
        bounds=bounds_in(natural, out), overflows=overflows_in(natural, out), reading=reading, fill=choice.fill,
        values=plain(pa.array(wanted, kind)) if categories else None,
    )  # fmt: skip
    if not choice.mask:
        return [column]
    flag = np.dtype(np.bool_)
    return [
        column,
        Column(
            name=f"{leaf.name}_valid", path=leaf.path, kind=how, source=flag, out=flag, shape=shape,
            reading=Reading.VALID,
        ),
    ]  # fmt: skip


def _refuse_dtype(leaf: _Leaf, wanted: Any) -> None:
    if wanted is not None:
        raise ConfigError(
            f"dtypes[{leaf.name!r}]={wanted!r}",
            expected=f"none: {leaf.declared} comes as a list",
            fix=f'for the place of each value among all, list them: dtypes={{"{leaf.name}": ["a", "b", …]}}',
        )
