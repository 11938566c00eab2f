"""How a batch is delivered: which columns become arrays, and which of them are widened on the device.

What enters: the schema that is read, and how batches shall come. What leaves: the column plan, and column → the dtype
that the device gives it. Invariant: what cannot be delivered so is refused here, before any row is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from datapipe.errors import ConfigError
from datapipe.loader.packed import POSITIONS, SEGMENTS
from datapipe.loader.stages import MASK

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.loader.columns import ColumnOptions, ColumnPlan


def plan_delivery(
    schema: pa.Schema,
    options: ColumnOptions,
    *,
    narrow: bool,
    shuffled: bool,
    tables: bool,
    collated: bool,
    packed: bool,
    padded: bool,
    moved: bool = False,
) -> tuple[ColumnPlan | None, dict[str, Any]]:
    """The column plan (None: rows stay Arrow), and the torch dtype of each column that the device widens.

    Args:
        options: what was asked of columns. narrow: numbers stay as stored until they are on the device.
        shuffled: rows come in random order. tables: rows stay Arrow until they are a table.
        collated: batches are no tables in the end. packed: rows are packed here. padded: there is a mask.
        moved: batches are copied to a device.

    Raises:
        ConfigError: these do not go together. SchemaError: a column's type cannot be delivered.
    """
    if not collated and options.given:
        raise ConfigError(
            f'{options.given} with collate="arrow"',
            expected="the columns as they are",
            fix=f"leave {options.given} out",
        )
    if packed and tables:
        raise ConfigError(
            "pack with Arrow tables: a packed row is no row of a table",
            fix='collate="torch" or "numpy", and a transform batch → batch',
        )
    if padded and MASK in schema.names:
        raise ConfigError(
            f'tail="pad" adds a column {MASK!r}, which the dataset has already',
            fix='rename it, open the dataset without it, or use tail="partial"',
        )
    if tables:
        return None, {}
    columns = options.plan(schema, narrow=narrow, together=shuffled and not packed)
    columns.contiguous = moved
    widen: dict[str, Any] = {}
    if narrow:
        from datapipe.loader.torch_collate import torch_dtype

        for column, wide in zip(columns, options.plan(schema), strict=True):
            if wide.out is not None and column.out != wide.out:
                widen[column.name] = torch_dtype(wide.out)
        widen.setdefault(POSITIONS, torch_dtype(np.dtype(np.int64)))
        if packed:
            widen[SEGMENTS] = torch_dtype(np.dtype(np.int64))
    return columns, widen
