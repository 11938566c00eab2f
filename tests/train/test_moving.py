"""A run that goes on with another number of processes, laid out in another way, is the same run."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SCRIPT = Path(__file__).with_name("moved_run.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Five stretches of one run: 4 ranks, 2, 1, 2 of which one is killed, 2 others."""
    folder = tmp_path_factory.mktemp("moving")
    (folder / "data").mkdir()
    rng = np.random.default_rng(0)
    tokens = (rng.integers(0, 97, (70, 1)) + np.arange(32) * rng.integers(1, 5, (70, 1))) % 97
    rows = pa.FixedSizeListArray.from_arrays(pa.array(tokens.reshape(-1), pa.uint16()), 32)
    pq.write_table(pa.table({"tokens": rows}), folder / "data" / "part.parquet", row_group_size=10)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), str(folder / "data")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_layout_goes_on_where_another_stopped(found):
    """Data x shard, then tensor, then one process, then data, then shard: the losses of one process all along.

    To rounding: sums over ranks are in another order. Each goes through 3 rows at once, however many its batch has.
    """
    assert found["moved"] == pytest.approx(found["still"], rel=1e-4)
    assert len(found["still"]) == 10


def test_a_rank_that_is_killed_loses_one_interval_at_most(found):
    """The other one ends with an error; the checkpoint before is whole, and the run goes on from it."""
    assert -9 in found["died"]
    assert 0 not in found["died"]
    *_, before, after_death, end = found["at"]
    assert (before, end) == (6, 10)
    assert after_death in {6, 8}
