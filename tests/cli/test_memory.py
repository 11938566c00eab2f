"""`datapipe memory`: what is printed of a run's memory."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from datapipe.cli.main import app
from datapipe.cli.memory import report_lines
from datapipe.train.memory_estimate import MemoryEstimate
from datapipe.train.memory_report import MemoryReport

RUN = """
dataset: tokens
loader: {batch_size: 4, seed: 0, num_threads: 1}
model: {vocab_size: 31, layers: 1, heads: 2, width: 16}
train: {steps: 8, device: cpu, precision: fp32}
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokens").mkdir()
    rows = pa.FixedSizeListArray.from_arrays(pa.array([n % 31 for n in range(16 * 8)], pa.uint16()), 16)
    pq.write_table(pa.table({"tokens": rows}), tmp_path / "tokens" / "part.parquet")
    (tmp_path / "run.yaml").write_text(RUN)

    def run(*arguments):
        done = CliRunner().invoke(app, ["memory", "run.yaml", *arguments])
        assert done.exit_code == 0, done.output
        return done

    return run


def test_it_says_where_memory_goes_and_that_the_batch_fits(run):
    """One object with `--json`; nothing is written."""
    found = json.loads(run("--json").stdout)
    assert found["estimate"]["gradients"] == found["measured"]["gradients"] == found["estimate"]["parameters"]
    assert (found["batch_rows"], found["fits"], found["estimate"]["rows"]) == (4, 4, 4)
    few = json.loads(run("--json", "--set", "train.micro_batch=3", "--no-measure").stdout)
    assert (few["estimate"]["rows"], few["measured"]) == (3, {})
    said = " ".join(run().output.split())
    assert "estimated measured" in said
    assert "the whole batch of 4 rows fits" in said


def report(**told):
    estimate = MemoryEstimate(
        rows=8, parameters=1000, buffers=0, gradients=1000, optimizer=2000, activations_fixed=0, activations_row=500,
        largest_row=100,
    )  # fmt: skip
    facts = {"device": "H", "capacity": 8000, "estimate": estimate, "batch_rows": 8, "fits": 4, "measured": {}}
    return report_lines(MemoryReport(**facts | told))


def test_what_does_not_fit_is_said():
    """How many rows would, and that memory ran out where it was measured."""
    assert "4 of the batch's 8 rows fit at once" in report()[-1]
    assert "115.0% of it" not in report()[-2]
    assert "120.0% of it" in report()[-2]
    assert report(out_of_memory=True)[-2].endswith("out of memory")
