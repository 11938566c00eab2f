"""A table run that is killed again and again, at its n-th write, publishes what an undisturbed one does."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import datapipe

PROGRAM = Path(__file__).parent / "killed.py"
OVERRIDES = {
    "schema.columns": {"age": "int32", "pay": "float64", "colour": "category"},
    "normalise.columns": {"age": "zscore", "pay": {"scale": "robust", "fill": "median"}},
    "categories.columns": {"colour": {}},
    "output.split_bytes": 2000,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory, tools):
    """Four CSV files, rows that do not fit and that repeat; and what an undisturbed run publishes."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "in").mkdir()
    draw = random.Random(4)
    for number in range(4):
        rows = [f"{draw.randint(0, 99)},{draw.random()},{draw.choice('rgb')}" for _ in range(60)]
        lines = ["age,pay,colour", *rows, rows[0], "many,1,r", "5,,g"]
        (folder / "in" / f"{number}.csv").write_text("\n".join(lines) + "\n")
    datapipe.preprocess(folder / "in", folder / "out", recipe="table", workers=0, overrides=OVERRIDES)
    return folder / "in", tools.published(folder / "out")


@pytest.mark.slow  # as the kills of the other recipes, which the fast suite has
@pytest.mark.parametrize("moment", ["after:8", "before:15"])
def test_killed_until_it_ends(small, tmp_path, tools, moment):
    """Each time it comes further, through measuring, cutting into runs and merging; nothing is there before the end."""
    corpus, expected = small
    runs = 0
    while True:
        runs += 1
        arguments = [corpus, tmp_path / "out", 0, moment, json.dumps(OVERRIDES), "table"]
        done = subprocess.run(
            [sys.executable, str(PROGRAM), *map(str, arguments)], capture_output=True, text=True, timeout=120
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        if done.returncode == 0:
            break
        assert runs < 40
    assert runs > 3
    assert tools.published(tmp_path / "out") == expected
