"""Loading a filtered dataset: the rows that pass, in a pure order, keyed by their numbers without the filter."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from datapipe import DataLoader, open_dataset
from datapipe.dataset.fetch import Shards
from datapipe.errors import StateError

N = 2000
FILTERS = [("lang", "==", "en"), ("id", "<", 1500)]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(1)
    table = pa.table(
        {"id": range(N), "lang": rng.choice(["en", "de"], N).tolist(), "text": [f"t{i}" for i in range(N)]}
    )
    for i in range(2):
        pq.write_table(table.slice(i * 1000, 1000), tmp_path / f"{i}.parquet", row_group_size=64)
    return tmp_path, table.filter((pc.field("lang") == "en") & (pc.field("id") < 1500))["id"].to_pylist()


def load(dataset, **options):
    with DataLoader(dataset, collate="numpy", **options) as loader:
        return [batch["id"].tolist() for batch in loader]


def test_exactly_the_rows_that_pass(folder):
    """Every row that passes once per epoch, `len` right, and no other; shuffled, and another way each epoch."""
    path, ids = folder
    dataset = open_dataset(path, filters=FILTERS)
    with DataLoader(dataset, 32, tail="partial", collate="numpy") as loader:
        epochs = [[i for batch in loader for i in batch["id"].tolist()] for _ in range(2)]
        assert len(loader) == -(-len(ids) // 32)
    assert sorted(epochs[0]) == sorted(epochs[1]) == ids
    assert epochs[0] != epochs[1]
    assert load(dataset, batch_size=len(ids), shuffle=False, lanes=1) == [ids]


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("options", [{"prefetch": 0}, {"num_threads": 1}, {"num_threads": 3}])
def test_the_order_is_pure(folder, world_size, options):
    """The same global batches on every topology, of a dataset filtered and opened anew."""
    path, _ = folder
    one = load(open_dataset(path, filters=FILTERS), batch_size=12, seed=5)
    shares = [
        load(
            open_dataset(path, filters=FILTERS),
            batch_size=12 // world_size, seed=5, rank=rank, world_size=world_size, **options,
        )
        for rank in range(world_size)
    ]  # fmt: skip
    assert [[i for part in parts for i in part] for parts in zip(*shares, strict=True)] == one


def test_keys_do_not_change_with_the_filter(folder):
    """A keyed transform draws the same for a row whatever the filter."""
    path, ids = folder

    def draw(batch, keys):
        batch["key"] = keys.rows.copy()
        return batch

    with DataLoader(open_dataset(path, ["id"], filters=FILTERS), 16, transform=draw, collate="numpy") as loader:
        for batch in loader:
            assert batch["key"].tolist() == batch["id"].tolist()
    assert ids


def test_only_needed_blocks_are_read(folder, monkeypatch):
    """Row groups of which no row passes are never read again, and the filter's columns once."""
    path, _ = folder
    dataset = open_dataset(path, ["text"], filters=[("id", ">=", 200), ("id", "<", 300)])
    assert dataset.num_rows == 100
    read = []
    fetch = Shards.fetch
    monkeypatch.setattr(Shards, "fetch", lambda self, *a: (read.append((tuple(self._columns), a)), fetch(self, *a))[1])
    with DataLoader(dataset, 10, collate="numpy") as loader:
        assert sum(len(batch["text"]) for batch in loader) == 100
    assert sorted(read) == [(("text",), (0, 3, 64)), (("text",), (0, 4, 64))]


def test_a_state_of_another_filter_is_refused(folder):
    """A state goes on with the same filter, and is refused with another."""
    path, _ = folder
    with DataLoader(open_dataset(path, filters=FILTERS), 16, collate="numpy") as loader:
        it = iter(loader)
        next(it)
        state = loader.state_dict()
        second = next(it)["id"].tolist()
    with DataLoader(open_dataset(path, filters=FILTERS[::-1]), 16, collate="numpy") as loader:
        loader.load_state_dict(state)
        assert next(iter(loader))["id"].tolist() == second
    for filters in (FILTERS[:1], None):
        with (
            DataLoader(open_dataset(path, filters=filters), 16, collate="numpy") as loader,
            pytest.raises(StateError, match="dataset"),
        ):
            loader.load_state_dict(state)


def test_nothing_passes(folder):
    """No batch, and a warning, not an error."""
    path, _ = folder
    dataset = open_dataset(path, filters=[("id", "<", 0)])
    with pytest.warns(UserWarning, match="no row passes"):
        assert load(dataset, batch_size=4) == []
