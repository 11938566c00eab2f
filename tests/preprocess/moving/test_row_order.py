"""One order for every corpus: bounds cut it where the sort would, in either direction, nulls, NaN and ties included."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError, SchemaError
from datapipe.preprocess.moving.row_order import joined, keys_of, parts_of, sorted_rows
from datapipe.preprocess.moving.splitters_task import WEIGHT, bounds_of
from datapipe.steps.sort_rows import ShuffleOptions, SortOptions

VALUES = st.lists(
    st.tuples(st.none() | st.sampled_from([1.0, 2.0, math.nan, -0.0, 0.0, math.inf]), st.sampled_from("ab"))
)


def rows(values):
    return pa.table(
        {
            "row_id": [f"r{i}" for i in range(len(values))],
            "x": pa.array([x for x, _ in values], pa.float64()),
            "y": pa.array([y for _, y in values], pa.string()),
            "__position": pa.array(range(len(values)), pa.uint32()),
        }
    )


@given(VALUES, st.sampled_from([(), ("x",), ("y",), ("x", "y")]), st.integers(1, 9), st.data())
@settings(deadline=None)
def test_parts_are_cuts_of_the_order(values, descending, parts, data):
    """Rows sorted part by part, one part after the other, are the rows sorted: whatever rows the bounds are."""
    options = SortOptions(by=("x", "y"), descending=descending)
    table = rows(values)
    keys = keys_of(table, "sort", options, 0, 3)
    whole = sorted_rows(keys, options).to_pylist()
    sample = keys.append_column(WEIGHT, pa.array([data.draw(st.floats(0.5, 9)) for _ in values], pa.float64()))
    bounds = bounds_of(sample, parts, options)
    assert bounds.num_rows < max(parts, 1)
    found = parts_of(keys, bounds, options)
    again = []
    for part in range(bounds.num_rows + 1):
        mine = np.flatnonzero(found == part)
        again += [int(mine[i]) for i in sorted_rows(keys.take(pa.array(mine)), options).to_pylist()]
    assert again == whole
    assert sorted(whole) == list(range(len(values)))


def test_golden():
    """NaN after the numbers, null last, in either direction; equal rows in the order of the input."""
    table = rows([(2.0, "a"), (None, "a"), (math.nan, "a"), (1.0, "b"), (2.0, "a"), (1.0, "a")])
    up, down = SortOptions(by=("x", "y")), SortOptions(by=("x", "y"), descending=("x",))
    assert sorted_rows(keys_of(table, "sort", up, 0, 0), up).to_pylist() == [5, 3, 0, 4, 2, 1]
    assert sorted_rows(keys_of(table, "sort", down, 0, 0), down).to_pylist() == [0, 4, 5, 3, 2, 1]


def test_equal_rows_are_cut_too():
    """A column of one value is cut into parts of equal size: the place ends the order."""
    options = SortOptions(by=("x",))
    keys = keys_of(rows([(1.0, "a")] * 1000), "sort", options, 0, 0)
    bounds = bounds_of(keys.append_column(WEIGHT, pa.repeat(1.0, 1000)), 4, options)
    assert np.bincount(parts_of(keys, bounds, options)).tolist() == [250] * 4


def test_a_shuffle_draws_by_row_id():
    """The draw of a row is a function of its id and the seed, wherever it lies."""
    table = rows([(1.0, "a")] * 50)
    options = ShuffleOptions()
    draws = keys_of(table, "shuffle", options, 5, 0)["key0"].to_pylist()
    assert keys_of(table.slice(10), "shuffle", options, 5, 9)["key0"].to_pylist() == draws[10:]
    assert keys_of(table, "shuffle", options, 6, 0)["key0"].to_pylist() != draws
    assert draws[0] == 838037016692847292, "the order of published shards may not change silently"


@pytest.mark.parametrize("values", [[[1]], [{"a": 1}]])
def test_no_order(values):
    """Lists and structures have no order."""
    table = rows([(1.0, "a")]).set_column(1, "x", pa.array(values))
    with pytest.raises(ConfigError, match="'x'"):
        keys_of(table, "sort", SortOptions(by=("x",)), 0, 0)


def test_unlike_types():
    """Numbers of two widths, and nulls without a type, are one order; numbers and texts are none."""
    options = SortOptions(by=("x",))
    parts = [
        keys_of(rows([(1.0, "a")]).set_column(1, "x", pa.array([value], kind)), "sort", options, 0, 0)
        for value, kind in ((1, pa.int8()), (2.5, pa.float64()), (None, pa.null()))
    ]
    assert joined(parts)["key0"].to_pylist() == [1.0, 2.5, None]
    text = rows([(1.0, "a")]).set_column(1, "x", pa.array(["z"]))
    with pytest.raises(SchemaError, match="schema"):
        joined([parts[0], keys_of(text, "sort", options, 0, 0)])


@pytest.mark.parametrize(
    "options", [{"by": ("x", "x")}, {"by": ("x",), "descending": ("y",)}, {"by": ("x",), "shards": -1}]
)
def test_refused(options):
    """Options that cannot be meant."""
    with pytest.raises(ConfigError):
        SortOptions(**options)
