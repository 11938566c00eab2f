"""What rows are sorted by, and which of the parts a row goes to.

What enters: tables with `row_id` and `__position`, the step that orders them. What leaves: key tables, orders, numbers
of parts. Invariant: no two rows of a corpus have the same key, because split and position end it. So the order is one,
a column of equal values is cut into parts as well as any other, and equal rows keep the order of the input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError, SchemaError
from datapipe.preprocess.step_order import POSITION

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

_PLACE: Final = ("split", "position", "row")


def keys_of(table: pa.Table, step: str, options: Any, seed: int, split: int) -> pa.Table:
    """The keys of a split's rows: key0, key1, …, split: uint32, position: uint32.

    Raises:
        ConfigError: a column to sort by is not there, or has no order.
    """
    import pyarrow as pa

    from datapipe.steps.sort_rows import order_keys

    keys = order_keys(table, step, options, seed)
    keys = keys.append_column("split", pa.repeat(pa.scalar(split, pa.uint32()), table.num_rows))
    return keys.append_column("position", table.column(POSITION))


def sorted_rows(keys: pa.Table, options: Any) -> pa.Array:
    """The order of the rows: uint64[n]; null last, before it NaN.

    Raises:
        ConfigError: a key has no order.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from datapipe.steps.sort_rows import directions

    try:
        places = [name for name in _PLACE if name in keys.column_names]
        order = [*directions(options), *((name, "ascending") for name in places)]
        return pc.sort_indices(keys, sort_keys=order)
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise ConfigError(f"the rows cannot be sorted ({error})", expected="columns that have an order") from error


def parts_of(keys: pa.Table, bounds: pa.Table, options: Any) -> npt.NDArray[np.int64]:
    """Which part each row goes to: the number of bounds that are not above it, int64[n].

    Args:
        bounds: keys of some rows, in order: each is the first row of a part.
    """
    import numpy as np
    import pyarrow as pa

    n, m = keys.num_rows, bounds.num_rows
    if not m:
        return np.zeros(n, np.int64)
    # Bounds and rows sorted together, so that Arrow's order is the only one there is. A bound is the key of a row that
    # is there: `row` puts it before that row.
    both = joined([bounds.append_column("row", pa.repeat(pa.scalar(0, pa.uint8()), m)),
                   keys.append_column("row", pa.repeat(pa.scalar(1, pa.uint8()), n))])  # fmt: skip
    order = np.asarray(sorted_rows(both, options).to_numpy(), np.int64)
    found = np.empty(n + m, np.int64)
    found[order] = np.cumsum(order < m)
    return found[m:]


def joined(tables: list[pa.Table]) -> pa.Table:
    """Key tables as one: of columns that differ in type from file to file, the type that holds both.

    Raises:
        SchemaError: there is none.
    """
    import pyarrow as pa

    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise SchemaError(
            f"a column to sort by has unlike types in the input ({error})",
            expected="one type",
            fix="put the step schema before it",
        ) from error
