"""What stands for a null: a refusal, a number, a mask."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from datapipe.errors import ConfigError, LoaderError
from datapipe.loader import DataLoader
from tests.loader.layouts import LAYOUTS, delivered, sliced, whole


def test_nan_is_proposed_to_floats_alone(of_tables):
    """What a refusal proposes can be done."""
    for array, proposed in ((pa.array([1, None]), False), (pa.array([0.5, None]), True)):
        with pytest.raises(LoaderError, match="no nulls in a column that comes as") as caught:
            delivered(of_tables, whole, array)
        assert ('"nan"' in str(caught.value)) is proposed


HOLES = [1, None, 3, None, 5, 6, 7, None, 9, 10, 11, None]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float32(), pa.bool_(), pa.timestamp("s")], ids=str)
def test_a_mask_tells_what_is_missing(of_tables, kind, layout):
    array = pa.array(HOLES, pa.int64()).cast(kind)
    batches, order = delivered(of_tables, layout, array, nulls={"c": "mask"}, shuffle=True)
    valid = np.concatenate([batch["c_valid"] for batch in batches])[order]
    values = np.concatenate([batch["c"] for batch in batches])[order]
    assert valid.dtype == np.bool_
    assert valid.tolist() == [value is not None for value in HOLES]
    assert values[valid].tolist() == [bool(v) if pa.types.is_boolean(kind) else v for v in HOLES if v is not None]
    assert not values[~valid].any()
    assert "id_valid" not in batches[0]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_nan_and_numbers_stand_for_nulls(of_tables, layout):
    floats, ints = pa.array(HOLES, pa.float32()), pa.array(HOLES, pa.int8())
    batches, order = delivered(of_tables, layout, floats, nulls="nan")
    assert np.array_equal(
        np.concatenate([b["c"] for b in batches])[order],
        np.array([math.nan if v is None else v for v in HOLES], np.float32),
        equal_nan=True,
    )
    for fill in (-1, 1000):  # the second is no int8, and comes all the same: the column comes as int64
        batches, order = delivered(of_tables, layout, ints, nulls={"c": fill})
        assert np.concatenate([b["c"] for b in batches])[order].tolist() == [fill if v is None else v for v in HOLES]
    batches, order = delivered(of_tables, layout, ints, {"c": "float64"}, nulls={"c": "nan"})
    assert np.isnan(np.concatenate([b["c"] for b in batches])[order]).sum() == 4


def test_a_word_on_all_columns_leaves_those_it_does_not_fit_as_they_were(of_tables):
    ints = pa.array(HOLES, pa.int8())
    with pytest.raises(LoaderError, match="holds 4 null"):
        delivered(of_tables, whole, ints, nulls="nan")
    batches, _ = delivered(of_tables, whole, pa.array(["a", None]), nulls="mask")
    assert list(batches[0]) == ["id", "id_valid", "c"]


@pytest.mark.parametrize(
    ("kind", "dtypes", "nulls", "message"),
    [
        (pa.int8(), None, {"c": "nan"}, "a column of floats"),
        (pa.int8(), {"c": "int8"}, {"c": 1000}, "int8 can hold"),
        (pa.int8(), None, {"c": 0.5}, "int64 can hold"),
        (pa.bool_(), None, 7, "bool can hold"),
        (pa.int8(), None, "zero", "a number, or a mapping"),
        (pa.int8(), None, {"d": 0}, "that the dataset has not"),
        (pa.string(), None, {"c": "mask"}, "None marks a missing string already"),
    ],
)
def test_what_cannot_stand_for_a_null_is_refused(of_tables, kind, dtypes, nulls, message):
    table = pa.table({"c": pa.array([None], kind)})
    with pytest.raises(ConfigError, match=message):
        DataLoader(of_tables(table), 1, dtypes=dtypes, nulls=nulls)


def test_nulls_within_lists(of_tables):
    fixed = pa.array([[1, None], None, [3, 4]] * 4, pa.list_(pa.int32(), 2))
    batches, order = delivered(of_tables, sliced, fixed, nulls={"c": "mask"}, shuffle=True)
    valid = np.concatenate([b["c_valid"] for b in batches])[order]
    assert valid.tolist() == [[True, False], [False, False], [True, True]] * 4
    ragged = pa.array([[1, None, 3], None, [], [4]] * 3, pa.list_(pa.int32()))
    with pytest.raises(LoaderError, match="no missing lists"):
        delivered(of_tables, whole, ragged)
    batches, order = delivered(of_tables, sliced, ragged, nulls={"c": "mask"}, shuffle=True)
    found = [
        (row[:n].tolist(), valid[:n].tolist(), valid[n:].any())
        for b in batches
        for row, valid, n in zip(b["c"], b["c_valid"], b["c_lengths"], strict=True)
    ]
    wanted = [([1, 0, 3], [True, False, True], False), ([], [], False), ([], [], False), ([4], [True], False)] * 3
    assert [found[i] for i in order] == wanted
    batches, order = delivered(of_tables, whole, ragged, nulls={"c": -1}, shuffle=True)
    found = [row[:n].tolist() for b in batches for row, n in zip(b["c"], b["c_lengths"], strict=True)]
    assert [found[i] for i in order] == [[1, -1, 3], [], [], [4]] * 3


def test_what_lies_under_a_null_is_nobodys_value(of_tables):
    """A number out of range behind a null is not there: it is neither refused nor delivered."""
    array = pa.Array.from_buffers(
        pa.int64(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(np.array([5, 10**9]))], null_count=1
    )
    batches, _ = delivered(of_tables, whole, array, {"c": "int8"}, nulls={"c": -1})
    assert batches[0]["c"].tolist() == [5, -1]


def test_a_table_transform_may_make_columns_with_nulls(of_tables):
    def transform(table: pa.Table) -> pa.Table:
        return table.append_column("d", pa.array([None if i % 2 else i for i in table["id"].to_pylist()]))

    dataset = of_tables(pa.table({"id": range(6)}))
    with DataLoader(
        dataset, 6, shuffle=False, transform=transform, collate="numpy", nulls="mask", prefetch=0
    ) as loader:
        (batch,) = loader
    assert batch["d_valid"].tolist() == [True, False] * 3
