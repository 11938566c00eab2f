"""Keys of rows: one text of the values of some columns, by which rows are joined and grouped.

What enters: a table and the names of columns. What leaves: a text for each row, or null. Invariant: rows with equal
values have equal keys, whatever Arrow types hold them, and rows with unlike values have unlike ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datapipe.errors import ConfigError
from datapipe.steps.columns import known_names
from datapipe.steps.options import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa


def key_texts(table: pa.Table, names: Sequence[str], where: str) -> pa.Array:
    """The keys of rows as texts: large_string[n], null where a column of them is null or empty.

    An empty text is what CSV has for nothing. 7 and "7" are the same key, because files differ in what they call a
    number; several columns are told apart by the length of each.

    Args:
        names: of the columns. where: whose they are, for messages: "join: users.csv".

    Raises:
        ConfigError: a column is not there, or holds what has no one text (floats, lists, times of day).
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = []
    for name in names:
        if name not in table.column_names:
            there = known_names(table)
            raise ConfigError(
                f"{where} has no column {name!r}", expected=f"one of {', '.join(there)}", fix=nearest(name, there)
            )
        values = table.column(name)
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        kind = values.type
        tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean,
                 pa.types.is_date, pa.types.is_null)  # fmt: skip
        if not any(test(kind) for test in tests):
            raise ConfigError(
                f"{where}: the key {name!r} has type {kind}",
                expected="texts, whole numbers, truth values or dates",
                fix="cast it first (the step schema does)",
            )
        text = values.cast(pa.large_string())
        texts.append(pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.large_string()), text))
    if len(texts) > 1:
        parts: list[Any] = []
        for text in texts:
            parts += [pc.binary_length(text).cast(pa.large_string()), pa.scalar(":", pa.large_string()), text]
        texts = [pc.binary_join_element_wise(*parts, pa.scalar("", pa.large_string()))]
    (found,) = texts
    whole = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    return whole if not isinstance(whole, pa.ChunkedArray) else pa.concat_arrays(whole.chunks)
