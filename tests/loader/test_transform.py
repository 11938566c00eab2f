"""Transforms: their kind is read off, and what they raise names the rows."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa
import pytest

from datapipe.errors import ConfigError, LoaderError
from datapipe.loader import DataLoader
from datapipe.loader.transform import RowKeys, Transform

KEYS = RowKeys(seed=1, epoch=2, rows=np.arange(20, 32))


def annotated(table: pa.Table) -> pa.Table:
    return table


def by_string(table: "pa.Table", keys) -> "pa.Table":  # noqa: UP037  (a string annotation is what is tested)
    return table


class Declared:
    takes = "table"

    def __call__(self, anything, keys=None):
        return anything


class OfColumns:
    takes = "columns"

    def __call__(self, columns, keys):
        return columns


@pytest.mark.parametrize(
    ("call", "takes", "keyed"),
    [
        (OfColumns(), "columns", True),
        (annotated, "table", False),
        (by_string, "table", True),
        (Declared(), "table", True),
        (lambda batch: batch, "batch", False),
        (lambda batch, keys: batch, "batch", True),
        (lambda batch, factor=2: batch, "batch", False),
        (functools.partial(lambda batch, factor: batch, factor=2), "batch", False),
        (dict, "batch", False),
    ],
)
def test_kind_and_keys_are_read_off_the_callable(call, takes, keyed):
    transform = Transform(call)
    assert (transform.takes, transform.keyed) == (takes, keyed)


def test_keyed_transforms_get_seed_epoch_and_rows():
    seen = []
    Transform(lambda batch, keys: seen.append(keys) or batch)({}, KEYS)
    assert seen == [KEYS]


def test_an_error_keeps_its_type_and_traceback_and_names_transform_and_rows():
    def breaks(batch):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        Transform(breaks)({}, KEYS)
    (note,) = caught.value.__notes__
    assert "breaks" in note
    assert "rows 20, 21, 22" in note
    assert "12 in all" in note
    assert "epoch 2" in note
    assert caught.traceback[-1].name == "breaks"


@pytest.mark.parametrize("result", [None, 5, pa.table({"x": [1]})])
def test_a_table_transform_must_return_as_many_rows(result):
    def returns(table: pa.Table):
        return result

    with pytest.raises(LoaderError, match="returns") as caught:
        Transform(returns)(pa.table({"x": list(range(12))}), KEYS)
    assert "rows 20" in caught.value.__notes__[0]


def test_stop_iteration_does_not_end_the_epoch():
    def stops(batch):
        raise StopIteration

    with pytest.raises(LoaderError, match="StopIteration"):
        Transform(stops)({}, KEYS)


def test_what_is_not_callable_is_refused():
    with pytest.raises(ConfigError):
        Transform(3)
    wrong = Declared()
    wrong.takes = "rows"
    with pytest.raises(ConfigError, match="rows"):
        Transform(wrong)


def test_several_transforms_are_one_function():
    with pytest.raises(ConfigError, match="calls each in turn"):
        Transform([len, len])


def test_a_table_transform_runs_before_arrays_and_a_batch_transform_after(memory):
    dataset = memory([10] * 3)

    def doubled(table: pa.Table, keys):
        assert keys.rows.tolist() == table["id"].to_pylist()
        return table.append_column("twice", pa.array([2 * i for i in table["id"].to_pylist()]))

    for batch in DataLoader(dataset, 5, transform=doubled, collate="numpy", num_threads=2, tail="pad"):
        assert (batch["twice"] == 2 * batch["id"]).all()
        assert batch["mask"].all()

    def keyed(batch, keys):
        assert keys.rows.tolist() == batch["id"].tolist()
        return {**batch, "epoch": keys.epoch, "seed": keys.seed}

    loader = DataLoader(dataset, 5, transform=keyed, collate="numpy", seed=9)
    list(loader)
    assert {(b["epoch"], b["seed"]) for b in loader} == {(1, 9)}


def test_a_transform_of_columns_runs_before_collate_and_writes_into_the_loaders_buffers(memory):
    """It sees arrays and the mask, whatever collate is; memory from `keys.empty` is used again once a batch is gone."""
    dataset = memory([10] * 3)
    places = set()

    class Wide:
        takes = "columns"

        def __call__(self, columns, keys):
            assert isinstance(columns["id"], np.ndarray)
            assert columns["mask"].all()
            assert keys.rows.tolist() == columns["id"].tolist()
            out = keys.empty((len(columns["id"]), 16, 1024), np.uint8)
            out[:] = columns["id"][:, None, None]
            places.add(out.ctypes.data)
            return {"wide": out, "id": columns["id"]}

    loader = DataLoader(dataset, 5, transform=Wide(), tail="pad", prefetch=1, num_threads=1, autotune=False)
    for batch in loader:
        assert (batch["wide"][:, 3, 5] == batch["id"]).all()
        assert type(batch["wide"]).__module__ == "torch"
    assert len(places) < len(loader)
    with pytest.raises(ConfigError, match="Wide takes columns"):
        DataLoader(dataset, 5, transform=Wide(), collate="arrow")
