"""Stopped anywhere, in whatever way, and started in a fresh process, a run computes what it would have."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SCRIPT = Path(__file__).with_name("resumed_run.py")


def process(*arguments):
    """A fresh interpreter; what it printed."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """70 packed rows in 7 row groups: 17 batches of 4 an epoch, so that 24 batches cross one's end."""
    folder = tmp_path_factory.mktemp("data") / "rows"
    folder.mkdir()
    rng = np.random.default_rng(0)
    tokens = (rng.integers(0, 97, (70, 1)) + np.arange(32) * rng.integers(1, 5, (70, 1))) % 97
    segments = np.ones((70, 32), np.uint16)
    segments[:, 20:] = 2
    segments[::3, 29:] = 0
    fixed = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), pa.uint16()), 32)
        for name, values in (("tokens", tokens), ("segment_ids", segments))
    }
    pq.write_table(pa.table(fixed), folder / "part.parquet", row_group_size=10)
    return folder


@pytest.fixture(scope="module")
def straight(tmp_path_factory, data):
    """Twelve steps in one process, never stopped."""
    return process("run", tmp_path_factory.mktemp("straight") / "run", data)


@pytest.mark.slow
def test_a_fresh_process_goes_on_bit_for_bit(tmp_path, data, straight):
    """5 steps, then 7 in a new process: the losses, weights, moments and following batches of 12 in one."""
    first = process("run", tmp_path / "run", data, 5)
    then = process("run", tmp_path / "run", data)
    assert (first["step"], then["resumed_from"], then["step"]) == (5, 5, 12)
    assert first["losses"] == straight["losses"][:5]
    for name in ("losses", "weights", "optimizer", "next"):
        assert then[name] == straight[name], name
    assert then["steps"] == list(range(1, 13))
    assert first["weights"] != then["weights"]
    assert len(set(then["next"])) == 5


@pytest.mark.parametrize("moments", [7, pytest.param(24, marks=pytest.mark.slow)])
def test_sigkill_at_any_moment_loses_one_interval_at_most(tmp_path, data, straight, moments):
    """Killed at operations all over its folder (checkpoints half-written included), it ends where it would have."""
    report = process("killed", tmp_path / "runs", data, moments)
    assert report["operations"] > 50
    assert len(report["outcomes"]) == moments
    for outcome in report["outcomes"]:
        where = f"operation {outcome['operation']} of {report['operations']}"
        assert outcome["signal"] == 9, where
        assert 0 <= outcome["logged"] - outcome["resumed_from"] <= 3, where
        for name in ("losses", "weights", "optimizer", "next", "steps", "files"):
            assert outcome[name] == straight[name], f"{name}, {where}"
    assert len({outcome["resumed_from"] for outcome in report["outcomes"]}) >= min(4, moments // 2)
