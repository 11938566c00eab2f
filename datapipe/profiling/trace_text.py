"""Trace events as JSON text, a column at a time.

Arrow's string kernels take a fifth of the time of a loop over dicts, and what a trace takes is part of what a profile
costs.

What enters: arrays of one length. What leaves: Arrow arrays of text, one event or part of one a row.
Invariant: numbers are written exactly (ns as µs with three decimals, or as ms with six); what is not there leaves no
comma behind.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]
    Text = Any  # a pyarrow.StringArray


def numbers(values: Ints) -> Text:
    """Whole numbers."""
    import pyarrow as pa

    return pa.array(values).cast(pa.string())


def microseconds(ns: Ints) -> Text:
    """Ns as µs: 1234567 → "1234.567"."""
    return _decimal(ns, 3)


def milliseconds(ns: Ints) -> Text:
    """Ns as ms: 1234567 → "1.234567"."""
    return _decimal(ns, 6)


def joined(*parts: Text | str) -> Text:
    """The parts of each row, one after the other; a plain string is part of every row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [pa.scalar(part) if isinstance(part, str) else part for part in parts]
    return pc.binary_join_element_wise(*columns, pa.scalar(""))


def chosen(texts: Sequence[str], which: Ints) -> Text:
    """One of some texts for each row."""
    import pyarrow as pa

    return pa.array(texts, pa.string()).take(pa.array(which))


def where(mask: Mask, text: Text) -> Text | None:
    """Rows of a column that is "" elsewhere; None where the mask is empty.

    Args:
        mask: bool[n].
        text: as many rows as the mask has true ones.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not mask.any():
        return None
    if mask.all():
        return text
    return pc.replace_with_mask(pa.repeat(pa.scalar(""), len(mask)), pa.array(mask), text)


def fields(columns: Sequence[Text | None], rows: int) -> Text:
    """Members of an object, each a column of `"name":value,` or ""; the last comma of a row is taken off."""
    import pyarrow as pa
    import pyarrow.compute as pc

    present = [column for column in columns if column is not None]
    if not present:
        return pa.repeat(pa.scalar(""), rows)
    return pc.utf8_rtrim(joined(*present), characters=",")


def lines(text: Text) -> str:
    """All rows, with commas between them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(text):
        return ""
    whole = pa.ListArray.from_arrays(pa.array([0, len(text)], pa.int32()), text)
    said: str = pc.binary_join(whole, ",")[0].as_py()
    return said


def _decimal(ns: Ints, places: int) -> Text:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    size = np.abs(ns)
    whole, rest = np.divmod(size, 10**places)
    if places <= 3:
        decimals = _decimals(places).take(pa.array(rest))
    else:
        decimals = pc.utf8_lpad(numbers(rest), width=places, padding="0")
        decimals = pc.binary_join_element_wise(pa.scalar("."), decimals, pa.scalar(""))
    text = pc.binary_join_element_wise(numbers(whole), decimals, pa.scalar(""))
    if (ns < 0).any():
        text = pc.if_else(pa.array(ns < 0), joined("-", text), text)
    return text


@functools.cache
def _decimals(places: int) -> Text:
    """From ".000" to ".999": looking one up is faster than padding a number."""
    import pyarrow as pa

    return pa.array([f".{i:0{places}d}" for i in range(10**places)])
