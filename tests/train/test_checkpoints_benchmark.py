"""The benchmark of checkpoints runs and counts what it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "train" / "checkpoints.py"


@pytest.mark.slow
def test_it_times_each_lag_over_the_same_checkpoints():
    """Two of twelve steps each; the last one, which is always waited for, is left out."""
    told = ["--width", "16", "--layers", "1", "--rounds", "1", "--steps", "12", "--json"]
    done = subprocess.run([sys.executable, str(SCRIPT), *told], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert [(row["lag"], row["checkpoints"]) for row in found["rows"]] == [(0, 2), (1, 2), (3, 2)]
    assert all(0 < row["least_s"] <= row["checkpoint_s"] <= row["most_s"] for row in found["rows"])
    assert found["bytes"] > 0
