"""The log: whole lines, each step once, cut back to where a run resumes."""

import json
from pathlib import Path

import pytest

from datapipe.errors import CheckpointError, NoSpaceError
from datapipe.train import StepRecord, latest_checkpoint
from datapipe.train.metrics_log import MetricsLog


def record(step):
    return StepRecord(
        step=step, loss=1 / step, lr=1e-3, grad_norm=1.0, tokens=7, rows=2, tokens_per_s=1.0, wait_ms=0.0,
        compute_ms=1.0, epoch=0,
    )  # fmt: skip


def steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_lines_are_readable_while_the_run_goes_on(tmp_path):
    with MetricsLog(tmp_path / "m.jsonl", steps=0) as log:
        log.write(record(1))
        assert json.loads((tmp_path / "m.jsonl").read_text()) == record(1).as_dict()


@pytest.mark.parametrize("tail", ["", '{"step": 6, "lo', '{"step": 6}', "\n", "garbage\n", "[1]\n", "\x00\xff\n"])
@pytest.mark.parametrize("kept", [0, 3, 5])
def test_it_is_cut_back_to_the_resumed_step(tmp_path, tail, kept):
    """Whatever a killed process left at its end."""
    path = tmp_path / "m.jsonl"
    with MetricsLog(path, steps=0) as log:
        for step in range(1, 6):
            log.write(record(step))
    with path.open("ab") as file:
        file.write(tail.encode("latin-1"))
    with MetricsLog(path, steps=kept) as log:
        log.write(record(kept + 1))
    assert steps(path) == list(range(1, kept + 2))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_told_as_one(tmp_path):
    """Also where the file is closed on the way out, which writes again what found no room."""
    log = MetricsLog(tmp_path / "m.jsonl", steps=0)
    log._file.close()
    log._file = Path("/dev/full").open("wb")  # noqa: SIM115  (the log closes it)
    with pytest.raises(NoSpaceError, match="m.jsonl"), log:
        log.write(record(1))


def test_a_folder_in_its_place_is_said_so(tmp_path):
    with pytest.raises(CheckpointError, match="log"):
        MetricsLog(tmp_path, steps=0)


def test_the_log_has_each_step_once(tmp_path, run):
    """Also after a stop, a torn last line, and steps beyond the checkpoint."""
    run(until=5, checkpoint_every=4)
    path = tmp_path / "run" / "metrics.jsonl"
    newest = latest_checkpoint(tmp_path / "run")
    newest.rename(newest.with_name("elsewhere"))  # as if killed before the last checkpoint
    with path.open("a") as log:
        log.write('{"step": 6, "lo')
    run()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert set(lines[0]) == {
        "step", "loss", "lr", "grad_norm", "tokens", "rows", "tokens_per_s", "wait_ms", "compute_ms", "epoch",
        "stall", "memory",
    }  # fmt: skip
