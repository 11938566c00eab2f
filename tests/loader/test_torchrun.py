"""Two ranks of torchrun train, one is killed, and one, two or four ranks go on with the same global batches."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datapipe

pytest.importorskip("torch")

JOB = Path(__file__).with_name("torchrun_job.py")
ROWS, GLOBAL_BATCH = 203, 8


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """203 rows in seven row groups: neither divides by anything."""
    folder = tmp_path_factory.mktemp("rows")
    draw = np.random.default_rng(0).random((ROWS, 4)).astype(np.float32)
    x = pa.FixedSizeListArray.from_arrays(pa.array(draw.ravel()), 4)
    pq.write_table(pa.table({"row": np.arange(ROWS), "x": x}), folder / "a.parquet", row_group_size=31)
    return folder


def torchrun(ranks, *args):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), str(JOB)]
    return subprocess.run([*command, *map(str, args)], capture_output=True, text=True, timeout=240, check=False)


def delivered(folder, world):
    """What the ranks were given: (epoch, epoch of the next, position of the next) → the global batch's rows."""
    batches = {}
    for rank in range(world):
        for line in (folder / f"rank-{rank}-of-{world}.jsonl").read_text().splitlines():
            epoch, after, position, rows = json.loads(line)
            batches.setdefault((epoch, after, position), []).extend(rows)
    return {key: sorted(rows) for key, rows in batches.items()}


@pytest.fixture(scope="module")
def unbroken(dataset):
    """The global batches of two epochs and the weights after them, by one process that was never stopped."""
    batches, weights = {}, np.zeros(4)
    with datapipe.DataLoader(datapipe.open_dataset(dataset), GLOBAL_BATCH, seed=7, rank=0, world_size=1) as loader:
        for epoch in range(2):
            for batch in loader:
                state = loader.state_dict()
                batches[epoch, state["epoch"], state["position"]] = sorted(batch["row"].tolist())
                x = batch["x"].double().numpy()
                weights -= 0.01 * (x.T @ (x @ weights - batch["row"].numpy() / 100)) / GLOBAL_BATCH
    return batches, weights


@pytest.fixture(scope="module")
def killed(dataset, tmp_path_factory):
    """A job of two ranks, one of which is killed at step 11: its last checkpoint is of step 8."""
    folder = tmp_path_factory.mktemp("killed")
    done = torchrun(2, dataset, folder, GLOBAL_BATCH, 11)
    assert done.returncode != 0
    assert json.loads((folder / "checkpoint.json").read_text())["steps"] == 8
    return folder


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_killed_job_goes_on_with_other_ranks(dataset, unbroken, killed, tmp_path, ranks):
    """From the checkpoint on, every global batch is the unbroken run's, and so are the weights at the end."""
    folder = tmp_path / "job"
    shutil.copytree(killed, folder)
    done = torchrun(ranks, dataset, folder, GLOBAL_BATCH, 0)
    assert done.returncode == 0, done.stderr[-2000:]
    batches, weights = unbroken
    before = {key: rows for key, rows in delivered(folder, 2).items() if len(rows) == GLOBAL_BATCH}
    after = delivered(folder, ranks)
    assert all(batches[key] == rows for key, rows in before.items())
    assert after == dict(list(batches.items())[8:])
    assert len(before) >= 8
    np.testing.assert_allclose(json.loads((folder / f"weights-{ranks}.json").read_text()), weights, rtol=1e-9)
