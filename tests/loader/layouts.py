"""One column in the layouts that Arrow may give it in, through the loader."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from datapipe.loader import DataLoader


def whole(array):
    return pa.chunked_array([array])


def sliced(array):
    """The same rows with something before and after them in the buffers."""
    padded = pa.concat_arrays([array[:3], array, array[:2]]) if len(array) >= 3 else array
    return pa.chunked_array([padded.slice(3, len(array))])


def chunked(array):
    return pa.chunked_array([array.slice(0, 5), array.slice(5, 0), array.slice(5)])


LAYOUTS = [whole, sliced, chunked]


def delivered(of_tables, layout, array, dtypes=None, nulls="refuse", shuffle=False, name="c"):
    """All rows of a column in file order, through the loader."""
    table = pa.table({"id": pa.array(range(len(array)), pa.int64()), name: layout(array)})
    with DataLoader(
        of_tables(table), 5, shuffle=shuffle, seed=3, tail="partial", collate="numpy", dtypes=dtypes, nulls=nulls,
        prefetch=0,
    ) as loader:  # fmt: skip
        batches = list(loader)
    order = np.argsort(np.concatenate([np.zeros(0, np.int64), *(batch["id"] for batch in batches)]))
    return batches, order
