"""`datapipe shrink`: from a run's file to a table of its smaller kin."""

import json

import pytest

from datapipe.cli import shrink as command
from datapipe.cli import train as train_command
from datapipe.errors import CheckpointError, ConfigError
from datapipe.train.trained import trained_gpt

RUN = """
dataset: tokens
loader: {batch_size: 4, seed: 0, num_threads: 1}
model: {vocab_size: 31, layers: 2, heads: 2, width: 16}
train: {steps: 2, lr: 1e-2, warmup: 1, device: cpu, precision: fp32}
out: runs/a
"""


@pytest.fixture
def here(token_folder):
    """A folder with a dataset of packed tokens and a trained run."""
    folder = token_folder(RUN)
    train_command.train("run.yaml", json=True)
    return folder


def test_from_a_run_to_priced_models(here, capfd):
    """The original first; each asked for after it; files beside the run that can be read; a table for people."""
    capfd.readouterr()
    command.shrink("run.yaml", method=["structured", "distil"], steps=2, json=True)
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert [price["name"] for price in found["models"]] == ["original", "structured", "distil"]
    assert "no evaluation" in err
    assert found["out"] == "runs/a-smaller"
    whole, narrow, shallow = found["models"]
    assert max(narrow["parameters"], shallow["parameters"]) < whole["parameters"]
    assert trained_gpt(here / shallow["file"])[0].config.layers == 1

    told = ["evaluation={dataset: tokens}"]
    command.shrink("run.yaml", method=["structured"], run=here / narrow["file"], steps=1, out=here / "b", set_=told)
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["model", "parameters", "zeros"]
    assert [line.split()[0] for line in lines[1:3]] == ["original", "structured"]
    assert "x)" in lines[2]
    assert "no evaluation" not in err


def test_what_is_wrong_is_said_first(here):
    """No such method, no such run, no run at all: nothing is trained."""
    with pytest.raises(ConfigError, match="methods"):
        command.shrink("run.yaml", method=["smaller"])
    with pytest.raises(CheckpointError, match="nowhere"):
        command.shrink("run.yaml", run=here / "nowhere")
    (here / "no-out.yaml").write_text(RUN.replace("out: runs/a\n", ""))
    with pytest.raises(ConfigError, match="no run to begin with"):
        command.shrink("no-out.yaml")
    assert not (here / "runs/a-smaller").exists()
