"""The dry run: what it says of an epoch is what the loader then does."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe import open_dataset
from datapipe.errors import ConfigError
from datapipe.loader.epoch_plan import _readers, plan_epoch


@pytest.fixture
def bare(tmp_path):
    pq.write_table(pa.table({"x": np.arange(10_007)}), tmp_path / "a.parquet", row_group_size=100)
    return open_dataset(str(tmp_path))


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
