"""The dry run: what it says of an epoch is what the loader then does."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe import Bucket, DataLoader, Pack, open_dataset
from datapipe.errors import ConfigError
from datapipe.loader.epoch_plan import _readers, plan_epoch, shuffle_quality
from datapipe.loader.geometry import choose_geometry
from datapipe.loader.order import Order


@pytest.fixture
def bare(tmp_path):
    pq.write_table(pa.table({"x": np.arange(10_007)}), tmp_path / "a.parquet", row_group_size=100)
    return open_dataset(str(tmp_path))


def test_one_is_not_many(tmp_path):
    """A dataset of one row, on one rank."""
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    said = str(plan_epoch(open_dataset(str(tmp_path)), batch_size=1))
    assert said.startswith("1 row in 1 row group\n")
    assert "1 row × 1 rank\n" in said
    assert ": 1 lane × 1 row group\n" in said


@pytest.mark.parametrize(
    ("tail", "steps", "left", "padded"), [("drop", 156, 23, 0), ("pad", 157, 0, 41), ("partial", 157, 0, 0)]
)
def test_steps_and_tail(bare, tail, steps, left, padded):
    """10,007 rows in global batches of 64: 156 full ones and 23 rows over."""
    plan = plan_epoch(bare, batch_size=16, world_size=4, tail=tail)
    assert (plan.global_batch, plan.steps_per_rank) == (64, steps)
    assert (plan.rows_left_out, plan.rows_padded) == (left, padded)


def test_shuffle_quality_tells_order_from_shuffle(bare):
    """In file order nothing moves and all rows follow their neighbour; shuffled it is near uniform."""
    ordered = plan_epoch(bare, batch_size=64, shuffle=False)
    assert ordered.displacement == 0
    assert ordered.neighbours == 1
    shuffled = plan_epoch(bare, batch_size=64)
    assert 0.8 < shuffled.displacement < 1.2
    assert shuffled.neighbours < 0.01


def test_a_narrow_window_shows_as_a_weak_shuffle(bare):
    weak = plan_epoch(bare, batch_size=64, lanes=1, window=1)
    assert weak.neighbours > plan_epoch(bare, batch_size=64).neighbours


@pytest.mark.parametrize(
    ("lanes", "ranks", "readers"), [(8, 1, 1), (8, 8, 1), (8, 4, 1), (8, 16, 2), (2, 3, 2), (1, 4, 4)]
)
def test_how_many_ranks_read_a_lane(lanes, ranks, readers):
    assert _readers(lanes, ranks) == readers


def test_it_prints_and_turns_into_json(bare):
    plan = plan_epoch(bare, batch_size=16, world_size=3)
    assert "10,007 rows" in str(plan)
    assert plan.as_dict()["steps_per_rank"] == plan.steps_per_rank


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"batch_size": 1, "world_size": 0}, {"batch_size": 1, "tail": "cut"}]
)
def test_wrong_settings_are_refused(bare, wrong):
    with pytest.raises(ConfigError):
        plan_epoch(bare, **wrong)


def test_an_epoch_without_a_batch_says_so(bare):
    """More rows asked for at once than there are: not a plan that looks like any other."""
    assert "warning" in str(plan_epoch(bare, batch_size=20_000))
    assert "warning" not in str(plan_epoch(bare, batch_size=20_000, tail="pad"))


@pytest.fixture
def documents(tmp_path):
    lengths = np.random.default_rng(3).integers(1, 900, 3000)
    table = pa.table({"tokens": pa.array([np.arange(n) for n in lengths], pa.list_(pa.int32())), "n_tokens": lengths})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=250)
    return open_dataset(str(tmp_path))


@pytest.mark.parametrize(
    "shape", [{"pack": Pack(1024)}, {"bucket": Bucket([100, 300, 600])}, {"bucket": Bucket(max_tokens=8192)}]
)
def test_a_shaped_epoch_is_what_the_loader_then_does(documents, shape):
    """Steps exactly; padding, from a sample, about."""
    plan = plan_epoch(documents, batch_size=16, **shape)
    with DataLoader(documents, 16, collate="numpy", **shape) as loader:
        assert sum(1 for _ in loader) == len(loader) == plan.steps_per_rank
        counted = loader.stats()
    assert plan.padding == pytest.approx(1 - counted["tokens"] / counted["places"], abs=0.06)
    assert "padding" in str(plan)
    assert plan.as_dict()["padding"] == plan.padding


@pytest.mark.parametrize("groups", [100, 100_000])
def test_the_default_shuffle_is_near_a_uniform_one(groups):
    """Rows of 2 kB, 20 MB a row group: rows move as far within 3%, and one in 5,000 at most follows its neighbour.

    A uniform shuffle, of as many rows as 100 row groups hold, is measured by the same rule.
    """
    rows = np.full(groups, 10_000, np.int64)
    geometry = choose_geometry(rows, rows * 2000, shuffle=True)
    order = Order(
        fingerprint="x", seed=1, rows=rows, geometry=geometry, global_batch=256, tail="drop", shuffle=True
    )  # fmt: skip
    displacement, neighbours = shuffle_quality(order)
    assert displacement == pytest.approx(1, abs=0.03)
    assert neighbours < 1 / 5000
    n = 1_000_000
    uniform = np.random.default_rng(0).permutation(n)
    assert np.abs(uniform - np.arange(n)).mean() / (n / 3) == pytest.approx(displacement, abs=0.03)
    assert (np.diff(uniform) == 1).mean() < 1 / 100_000
