"""Filtered datasets: the rows that pass, their numbers, their name, and what is read to find them."""

import pickle
import threading
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from datapipe import open_dataset
from datapipe.dataset.fetch import Shards
from datapipe.errors import DatasetError

F = pc.field
N = 1000


@pytest.fixture(params=["parquet", "arrow"])
def folder(request, tmp_path):
    """Two files, in row groups of 100 rows."""
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "id": pa.array(range(N), pa.int64()),
            "lang": pa.array(rng.choice(["en", "de", "fr"], N).tolist()),
            "score": pa.array(rng.random(N), mask=rng.random(N) < 0.1),
            "tokens": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(N * 3, dtype=np.int32)), 3),
        }
    )
    for i, part in enumerate((table.slice(0, 550), table.slice(550))):
        if request.param == "parquet":
            pq.write_table(part, tmp_path / f"{i}.parquet", row_group_size=100)
        else:
            with pa.ipc.new_file(str(tmp_path / f"{i}.arrow"), table.schema) as writer:
                writer.write_table(part, max_chunksize=100)
    return tmp_path, table


FILTERS = [
    [("lang", "==", "en"), ("score", ">", 0.5)],
    [[("lang", "==", "en")], [("score", "<", 0.01)]],
    (F("lang") == "en") & (F("score") > 0.5),
    [("id", ">=", 250), ("id", "<", 600)],
    [("id", "in", [3, 777])],
    [("id", "!=", 500)],
    [("score", "not in", [0.5])],
    F("score").is_null(),
]


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_the_rows_that_pass(folder, filters):
    """`take`, `num_rows`, `fetch` and `row_numbers` agree with Arrow's filter of the whole table."""
    path, table = folder
    expression = filters if isinstance(filters, pc.Expression) else pq.filters_to_expression(filters)
    expected = table.filter(expression)
    if filters is FILTERS[6]:  # its nulls are unknown here, as in SQL
        expected = table.filter(F("score").is_valid())
    dataset = open_dataset(path, filters=filters)
    assert dataset.num_rows == len(dataset) == len(expected)
    assert dataset.take(range(len(expected))).equals(expected)
    assert dataset.take([len(expected) - 1, 0]).equals(expected.take([len(expected) - 1, 0]))
    index = dataset.index
    for block in np.flatnonzero(index.rows).tolist():
        part = dataset.fetch(block).decode()
        assert part.num_rows == index.rows[block]
        assert all(column.num_chunks == 1 for column in part.columns)
        numbers = dataset.row_numbers(np.full(len(part), block), np.arange(len(part)))
        assert numbers.tolist() == part["id"].to_pylist()
    assert dataset._selection()[0].nbytes <= N / 8 + index.rows.nbytes + len(index)


def test_names(folder):
    """A filtered dataset has a name of its own, the same wherever and however often it is opened."""
    path, _ = folder
    names = {open_dataset(path, filters=f).fingerprint for f in [*FILTERS, None]}
    assert len(names) == len(FILTERS) + 1
    again = open_dataset(path, ["id"], filters=[FILTERS[0][1], FILTERS[0][0]])
    assert again.fingerprint == open_dataset(path, filters=FILTERS[0]).fingerprint


def test_nothing_is_read_before_it_must(folder, monkeypatch):
    """Opening and printing read no row; what statistics settle is never read, the rest once, by many threads."""
    path, _ = folder
    read = []
    fetch = Shards.fetch
    monkeypatch.setattr(Shards, "fetch", lambda self, *a: (read.append((self._columns, a)), fetch(self, *a))[1])
    dataset = open_dataset(path, filters=[("id", ">=", 250), ("id", "<", 600)])
    assert "not yet counted" in repr(dataset)
    assert not read
    threads = [threading.Thread(target=lambda: dataset.num_rows) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dataset.num_rows == 350
    assert "rows=350 of 1,000" in repr(dataset)
    assert all(columns == ["id"] for columns, _ in read)
    settled = {(0, 3), (0, 4)} if dataset.index.formats[0] == "parquet" else set()
    whole = {(s, g) for s, groups in ((0, 6), (1, 5)) for g in range(groups)}
    # Of Parquet only the row group that the bound 250 and the one that 600 cut.
    assert sorted(a[:2] for _, a in read) == ([(0, 2), (1, 0)] if settled else sorted(whole))


def test_a_filter_that_nothing_passes(folder):
    """An empty dataset, and a warning that says which filter."""
    path, _ = folder
    dataset = open_dataset(path, filters=[("lang", "==", "xx")])
    with pytest.warns(UserWarning, match=r'no row passes the filter \(lang == "xx"\)'):
        assert dataset.num_rows == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dataset.take([]).num_rows == 0
        assert dataset.take([]).schema == dataset.schema


def test_a_pickle_carries_the_selection(folder, monkeypatch):
    """Another process does not read the filter's columns again."""
    path, _ = folder
    dataset = open_dataset(path, ["id"], filters=FILTERS[0])
    rows = dataset.num_rows
    copy = pickle.loads(pickle.dumps(dataset))
    monkeypatch.setattr(Shards, "bounds", None)
    assert copy.num_rows == rows
    assert copy.take([0])["id"].to_pylist() == dataset.take([0])["id"].to_pylist()


def test_a_filter_that_cannot_be_computed(tmp_path):
    """A fault in some row names shard and row group, and is raised again when asked again."""
    pq.write_table(pa.table({"n": pa.array([1, 2**62], pa.int64())}), tmp_path / "x.parquet")
    dataset = open_dataset(tmp_path, filters=pc.multiply_checked(F("n"), 4) > 3)
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"x\.parquet: row group 0"):
            _ = dataset.num_rows
