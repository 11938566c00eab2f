"""Which rows a statistic is of: those that have given values in given columns.

What enters: a table, and by column the value. What leaves: the rows that have them all. Invariant: values are compared
as text, so that a recipe may name a number; a null is no value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datapipe.steps.columns import column

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa


def rows_with(table: pa.Table, values: Mapping[str, str], step: str) -> pa.Table:
    """The rows whose columns have these values.

    Args:
        step: for whom, for messages.

    Raises:
        ConfigError: a column is not there, or has no text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, value in values.items():
        of = table
        if name in table.column_names and pa.types.is_dictionary(table.schema.field(name).type):
            kept = table.column(name)
            of = pa.table({name: kept.cast(kept.type.value_type)})
        try:
            same = pc.equal(column(of, name, pa.large_string()), value)
        except Exception as error:
            error.add_note(f"asked for by {step}.measure")
            raise
        table = table.filter(same)
    return table
