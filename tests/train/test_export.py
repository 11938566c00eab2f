"""A checkpoint's weights as one file."""

import json
import os
import stat

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from typer.testing import CliRunner

from datapipe.cli.main import app
from datapipe.errors import CheckpointError, ConfigError, NoSpaceError
from datapipe.train import GPT, GPTConfig, export, train
from datapipe.train.export import export_model


@pytest.fixture
def run(tmp_path, make_config, make_loader):
    return train(make_config(steps=2), make_loader(), out=tmp_path / "run")


def test_the_file_is_the_trained_model(tmp_path, run):
    """Its shape is in the header; a model made of both computes the same."""
    path = tmp_path / "model.safetensors"
    done = export_model(tmp_path / "run", path)
    with safe_open(done.path, framework="pt") as file:
        told = file.metadata()
    twin = GPT(GPTConfig(**json.loads(told["model"])))
    twin.load_state_dict(load_file(done.path))
    tokens = torch.arange(8).view(1, 8)
    assert torch.equal(twin.eval()(tokens), run.model.eval()(tokens))
    assert (told["format"], told["step"], done.step, done.parameters) == ("pt", "2", 2, run.parameters)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert done.bytes == path.stat().st_size


def test_it_is_written_in_the_numbers_asked_for(tmp_path, run):
    path = tmp_path / "half.safetensors"
    export_model(run.checkpoint, path, dtype="bf16")
    assert {value.dtype for value in load_file(path).values()} == {torch.bfloat16}
    with pytest.raises(ConfigError, match="dtype='int4'"):
        export_model(run.checkpoint, tmp_path / "x", dtype="int4")


def test_nothing_is_lost_when_it_cannot_be_written(tmp_path, run, monkeypatch):
    """A file that is there stays unless told otherwise, and also when the disk fills up."""
    path = tmp_path / "model.safetensors"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        export_model(run.checkpoint, path)
    with pytest.raises(ConfigError, match="no folder"):
        export_model(run.checkpoint, tmp_path / "nowhere" / "model.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        export_model(tmp_path / "nothing", path, overwrite=True)

    def full(path):
        raise OSError(28, "full")

    with monkeypatch.context() as patch:
        patch.setattr(export, "sync_file", full)
        with pytest.raises(NoSpaceError):
            export_model(run.checkpoint, path, overwrite=True)
    assert path.read_text() == "mine"
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".tmp")] == []
    export_model(run.checkpoint, path, overwrite=True)
    assert load_file(path)


def test_the_command_says_what_it_wrote(tmp_path, run):
    path = tmp_path / "model.safetensors"
    said = CliRunner().invoke(app, ["export", str(tmp_path / "run"), str(path), "--json"])
    assert said.exit_code == 0
    assert json.loads(said.stdout)["parameters"] == run.parameters
    plain = CliRunner().invoke(app, ["export", str(tmp_path / "run"), str(path), "--overwrite"])
    assert f"{run.parameters:,} parameters" in " ".join(plain.output.split())
    assert "of step 2" in " ".join(plain.output.split())
