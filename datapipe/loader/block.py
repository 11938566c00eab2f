"""One row group in memory, checked, laid out so that rows of it can be found by address.

What enters: a decoded Arrow table and the column plan. What leaves: a `Block`. Invariant: a value that cannot be
delivered truthfully (a null in a numeric column, a number beyond the wanted dtype) stops here with the column's
name; after this, gathering cannot fail on data, strings that are not UTF-8 apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import pyarrow as pa
import pyarrow.types as pt

from datapipe.loader.columns import Column, ColumnPlan, Kind
from datapipe.loader.lists import ListBlock
from datapipe.loader.rows import address_of
from datapipe.loader.texts import TextBlock, aligned
from datapipe.loader.values import flat_values, plain

if TYPE_CHECKING:
    import numpy.typing as npt


@final
class Block:
    """A decoded row group.

    Args:
        columns: the plan; None: everything stays Arrow.

    Attributes:
        rows: how many. nbytes: memory it holds.
        addresses: column name → where the first value of each FIXED column lies; valid while the block is referenced.
        matrix: where the first row of the columns that are kept together lies, if there are any.
        texts, lists: column name → text and variable-length lists.
        arrays: column name → pa.Array, for what is gathered by Arrow.
    """

    __slots__ = ("_keep", "addresses", "arrays", "lists", "matrix", "nbytes", "rows", "texts")

    def __init__(self, table: pa.Table, columns: ColumnPlan | None) -> None:
        self.rows = table.num_rows
        self.nbytes = 0
        self.arrays: dict[str, pa.Array] = {}
        self.texts: dict[str, TextBlock] = {}
        self.lists: dict[str, ListBlock] = {}
        self.addresses: dict[str, int] = {}
        self.matrix = 0
        self._keep: list[Any] = []
        if columns is None:
            for name in table.column_names:
                self._keep_array(name, _one_chunk(table.column(name)))
            return
        together: dict[str, npt.NDArray[Any]] = {}
        for column in columns:
            array = _leaf(table, column)
            if column.kind is Kind.OBJECTS:
                self._keep_array(column.name, array)
            elif column.kind is Kind.TEXT:
                text = self.texts[column.name] = TextBlock(array)
                self.nbytes += text.nbytes
            elif column.kind is Kind.RAGGED:
                lists = self.lists[column.name] = ListBlock(array, column)
                self.nbytes += lists.nbytes
            elif column.together:
                together[column.name] = flat_values(array, column)
            else:
                self.addresses[column.name] = self._hold(aligned(flat_values(array, column)))
        layout = columns.layout
        if layout is not None:
            self.matrix = self._hold(layout.fill([together[name] for name in layout.names], self.rows))

    def _keep_array(self, name: str, array: pa.Array) -> None:
        self.arrays[name] = array
        self.nbytes += array.nbytes

    def _hold(self, values: npt.NDArray[Any]) -> int:
        self._keep.append(values)
        self.nbytes += values.nbytes
        return address_of(values)


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    if not column.num_chunks:
        return pa.array([], column.type)
    if column.nbytes >= 1 << 31:  # beyond the reach of 32-bit offsets once joined
        if pt.is_string(column.type):
            column = column.cast(pa.large_string())
        elif pt.is_binary(column.type):
            column = column.cast(pa.large_binary())
    return pa.concat_arrays(column.unify_dictionaries().chunks)


def _leaf(table: pa.Table, column: Column) -> pa.Array:
    """The stored column, or the field within structs that the plan leads to; missing where a struct around it is."""
    array = _one_chunk(table.column(column.path[0]))
    for name in column.path[1:]:
        array = plain(array)
        array = array.flatten()[array.type.get_field_index(name)]
    return array
