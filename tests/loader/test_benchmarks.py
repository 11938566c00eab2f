"""The benchmarks of loaders run, and a contender that cheats is thrown out."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "loaders"


@pytest.fixture(scope="module")
def harness():
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("harness")
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def tokens(harness):
    return importlib.import_module("tokens")


@pytest.fixture(scope="module")
def corpus(tokens, tmp_path_factory):
    return tokens.make_corpus(tmp_path_factory.mktemp("tokens"), True)


@pytest.mark.parametrize(
    ("script", "bound"),
    [
        pytest.param("tokens", "gather", marks=pytest.mark.slow),
        pytest.param("tables", "memory", marks=pytest.mark.slow),
        pytest.param("texts", "gather", marks=pytest.mark.slow),
        pytest.param("images", "by hand", marks=pytest.mark.slow),
    ],
)
def test_contenders_are_checked_and_measured(harness, script, bound, tmp_path):
    """The bound, and ours: each row once, unchanged, or the run says that it failed."""
    if script == "images" and importlib.import_module("pictures").find_decoder() is None:
        pytest.skip("neither simplejpeg nor Pillow is installed")
    command = [sys.executable, str(FOLDER / f"{script}.py"), "--quick", "--repeats", "2", "--folder", str(tmp_path)]
    done = subprocess.run(
        [*command, "--only", bound, "--only", "datapipe"], capture_output=True, text=True, check=True, timeout=300
    )
    assert "failed" not in done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) >= 4
    assert sum("| datapipe" in row for row in rows) >= 2


@pytest.mark.slow
def test_what_must_stay_as_it_is_is_measured(tmp_path):
    """A line for memory, for cost by size of the dataset, for the first batch and for threads."""
    command = [sys.executable, str(FOLDER / "steady.py"), "--quick", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [sum(word in row for row in rows) for word in ("memory", "a row", "first batch after", "threads")] == [
        1, 1, 2, 2,
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tokens", "documents"])
def test_the_remote_benchmark_runs_against_its_slow_store(kind, tmp_path):
    """The bound, and ours by http and s3: each row once, unchanged."""
    command = [sys.executable, str(FOLDER / "remote.py"), kind, "--quick", "--repeats", "1", "--folder", str(tmp_path)]
    done = subprocess.run(
        [*command, "--only", "GETs", "--only", "Parquet, http", "--only", "Parquet, s3"],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    assert "failed" not in done.stdout + done.stderr
    assert sum("| datapipe" in line for line in done.stdout.splitlines()) == 3


def test_what_fails_is_told_and_the_others_go_on(tmp_path):
    command = [sys.executable, str(FOLDER / "tokens.py"), "--quick", "--repeats", "1", "--folder", str(tmp_path)]
    command += ["--only", "gather", "--only", "LitData", "--peer", f"litdata={sys.executable}"]  # where it is not
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert "| LitData | failed: ModuleNotFoundError" in done.stdout
    assert "| gather: a memmap into one buffer | " in done.stdout


@pytest.mark.parametrize("fault", ["short", "twice", "changed", "narrow", "beyond"])
def test_a_contender_that_does_not_deliver_each_row_once_is_thrown_out(harness, tokens, corpus, fault):
    def epoch():
        for start in range(0, corpus.rows, tokens.BATCH):
            if fault == "short" and start == 0:
                continue
            batch = np.array(corpus.memmap[start : start + tokens.BATCH], np.int64)
            if fault == "twice":
                batch[1] = batch[0]
            if fault == "changed":
                batch[0, 3] += 1
            if fault == "beyond" and start == 0:
                batch[0, 0] = corpus.rows
            yield batch.astype(np.int32) if fault == "narrow" else batch

    with pytest.raises(ValueError, match=r"exactly once|checksum|int32"):
        harness.check(tokens.WORKLOAD, corpus, epoch)


def test_how_well_an_order_is_shuffled(harness):
    n = 20_000
    assert harness.quality(np.arange(n)) == {"moved": 0.0, "near": 1.0}
    uniform = harness.quality(np.random.default_rng(0).permutation(n))
    assert abs(uniform["moved"] - 1) < 0.05
    assert abs(uniform["near"] - 0.02) < 0.005
    pools = np.concatenate([np.random.default_rng(k).permutation(2000) + 2000 * k for k in range(10)])
    assert harness.quality(pools)["moved"] < 0.15


@pytest.mark.usefixtures("harness")
def test_a_round_of_epochs_in_a_row_begins_with_nothing_at_hand(monkeypatch):
    """One loader for the epochs of a round, closed after the last of them; the next round has one of its own."""
    module, told = importlib.import_module("in_a_row"), []

    class Loader:
        def __init__(self, number):
            told.append(f"made {number}")

        def __iter__(self):
            told.append("epoch")
            return iter([1, 2])

        def close(self):
            told.append("closed")

    monkeypatch.setenv(module.EPOCHS, "2")
    living = module.Living(Loader)
    for _ in range(4):
        assert list(living()) == [1, 2]
    once = ["epoch", "epoch", "closed"]
    assert told == ["made 0", *once, "made 1", *once]
