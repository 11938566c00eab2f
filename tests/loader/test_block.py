"""Blocks: what cannot be delivered truthfully stops here, with the column's name."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from datapipe.errors import LoaderError
from datapipe.loader.block import Block
from datapipe.loader.columns import plan_columns
from datapipe.loader.values import flat_values


def block(array, **options):
    table = pa.table({"c": array})
    return Block(table, plan_columns(table.schema, **options))


def values(array):
    (column,) = plan_columns(pa.schema([("c", array.type)]))
    return flat_values(array, column)


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1, None]),
        pa.array([1.0, None]),
        pa.array([True, None]),
        pa.array([[1, 2], None], pa.list_(pa.int32(), 2)),
        pa.array([[1, None]], pa.list_(pa.int32(), 2)),
        pa.array([[1], None], pa.list_(pa.int32())),
        pa.array([[1, None]], pa.list_(pa.int32())),
        pa.array([1.5, None]).dictionary_encode(),
    ],
)
def test_a_null_number_is_refused_never_zero(array):
    with pytest.raises(LoaderError, match="column 'c' holds 1 null"):
        block(array)


def test_null_strings_are_kept():
    assert block(pa.array(["a", None])).texts["c"].array.to_pylist() == ["a", None]


@pytest.mark.parametrize(
    ("array", "dtypes", "named"),
    [
        (pa.array([2**63], pa.uint64()), None, str(2**63)),
        (pa.array([1, 300]), {"c": "int8"}, "300"),
        (pa.array([-1, 5]), {"c": "uint16"}, "-1"),
        (pa.array([[70_000]], pa.list_(pa.int32())), {"c": "uint16"}, "70000"),
    ],
)
def test_a_number_out_of_range_is_refused_never_wrapped(array, dtypes, named):
    with pytest.raises(LoaderError, match=f"holds {named}"):
        block(array, dtypes=dtypes)


@pytest.mark.parametrize(
    "array",
    [
        pa.array(range(10), pa.int16()),
        pa.array([i % 3 == 0 for i in range(10)]),
        pa.array([[i, i + 1] for i in range(10)], pa.list_(pa.float32(), 2)),
        pa.array([[[i], [i + 1]] for i in range(10)], pa.list_(pa.list_(pa.int8(), 1), 2)),
        pa.array([0.5, 1.5] * 5).dictionary_encode(),
    ],
)
def test_slices_give_their_own_values(array):
    """Offsets are honoured at every level of nesting."""
    part = array.slice(3, 4)
    expected = np.array(part.to_pylist()).ravel().tolist()
    assert values(part if not isinstance(part, pa.DictionaryArray) else part.dictionary_decode()).tolist() == expected
    assert (
        values(array.slice(3, 0) if not isinstance(array, pa.DictionaryArray) else pa.array([], pa.float64())).size == 0
    )


def test_misaligned_values_are_copied_into_line():
    """A file whose buffers lie at odd addresses is read all the same."""
    memory = np.zeros(8 * 4 + 1, np.uint8)
    memory[1:] = np.arange(4, dtype=np.int64).view(np.uint8)
    odd = pa.Array.from_buffers(pa.int64(), 4, [None, pa.py_buffer(memory[1:])])
    made = block(odd)
    assert made.addresses["c"] % 8 == 0


def test_without_a_plan_everything_stays_arrow():
    table = pa.table(
        {"x": pa.array([{"deep": 1}]), "y": pa.chunked_array([pa.array([], pa.int8()), pa.array([None], pa.int8())])}
    )
    assert Block(table, None).arrays["x"].to_pylist() == [{"deep": 1}]


def test_views_and_dictionaries_of_text_become_plain():
    for array in (pa.array(["a", "b"], pa.string_view()), pa.array(["a", "b"]).dictionary_encode()):
        assert block(array).texts["c"].array.to_pylist() == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [(pa.array([1.0, 1e6]), "float16"), (pa.array([1, 70_000]), "float16"), (pa.array([1e300]), "float32")],
)
def test_a_number_that_would_become_infinite_is_refused(values, wanted):
    table = pa.table({"x": values})
    with pytest.raises(LoaderError, match=f"(?s)'x' holds .*fit {wanted}"):
        Block(table, plan_columns(table.schema, {"x": wanted}))


def test_infinity_and_nan_may_be_narrowed():
    table = pa.table({"x": [float("inf"), float("nan"), 65_504.0]})
    assert Block(table, plan_columns(table.schema, {"x": "float16"})).rows == 3
