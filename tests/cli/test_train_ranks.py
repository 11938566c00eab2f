"""`datapipe train` under torchrun: the command that a user types, on real processes."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

RUN = """
dataset: tokens
loader: {batch_size: 8, seed: 0, num_threads: 1, tail: partial}
evaluation: {dataset: tokens}
model: {vocab_size: 31, layers: 2, heads: 2, width: 16}
train: {steps: 12, lr: 1e-2, warmup: 2, device: cpu, precision: fp32}
"""


@pytest.fixture
def here(tmp_path):
    rows = np.arange(33)[:, None]
    tokens = (rows + (1 + rows % 3) * np.arange(16)) % 31
    lists = pa.FixedSizeListArray.from_arrays(pa.array(tokens.ravel().astype(np.int32)), 16)
    (tmp_path / "tokens").mkdir()
    pq.write_table(pa.table({"tokens": lists}), tmp_path / "tokens" / "a.parquet", row_group_size=8)
    (tmp_path / "run.yaml").write_text(RUN)
    return tmp_path


@pytest.mark.slow
def test_torchrun_trains_what_one_process_does(here):
    """Sharded over two, 33 rows so that the last batch is empty on one of them: one JSON object, the same losses."""
    train = ["-m", "datapipe", "train", "run.yaml", "--json"]
    ranks = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "datapipe", *train[2:]]
    more = ["--set", "train.layout.shard=2", "--set", "loader.batch_size=4"]
    found = []
    for command in ([*train, "--out", "one"], [*ranks, *more, "--out", "two"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=here, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True,
            text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(json.loads(done.stdout))
    one, two = found
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["targets"] == one["targets"]
    assert len((here / "two" / "metrics.jsonl").read_text().splitlines()) == 12
