"""A trained model, made anew."""

import json

import pytest
import torch
from safetensors.torch import save_file

from datapipe.errors import CheckpointError, ConfigError
from datapipe.train import train
from datapipe.train.export import export_model
from datapipe.train.trained import trained_gpt


def test_the_model_of_a_run_its_step_and_its_export(tmp_path, make_config, make_loader):
    """All three give the trained model's logits, in eval mode."""
    result = train(make_config(steps=2), make_loader(), out=tmp_path / "run")
    export_model(tmp_path / "run", tmp_path / "m.safetensors")
    tokens = torch.arange(10)[None]
    with torch.no_grad():
        wanted = result.model.eval()(tokens)
        for place in (tmp_path / "run", result.checkpoint, tmp_path / "m.safetensors"):
            model, step = trained_gpt(place)
            assert (step, model.training) == (2, False)
            assert torch.equal(model(tokens), wanted), place


def test_what_is_no_gpt(tmp_path, make_config, make_loader, make_model):
    """A given model is said to be one; files that are none, or of another shape, are damaged ones."""
    train(make_config(steps=1, model=None), make_loader(), out=tmp_path / "run", model=make_model())
    with pytest.raises(ConfigError, match="given to the run"):
        trained_gpt(tmp_path / "run")
    with pytest.raises(CheckpointError):
        trained_gpt(tmp_path / "nothing")
    file = tmp_path / "m.safetensors"
    weights = {"a": torch.zeros(2)}
    shape = {"vocab_size": 5, "seq_len": 4, "layers": 1, "heads": 1, "width": 4}
    for told in (
        None,
        {"step": "1"},
        {"step": "x", "model": "{}"},
        {"step": "1", "model": "{"},
        {"step": "1", "model": json.dumps(shape)},
        {"step": "1", "model": json.dumps({"depth": 3})},
    ):
        save_file(weights, file, metadata=told)
        with pytest.raises(CheckpointError):
            trained_gpt(file)
    file.write_bytes(b"no such thing")
    with pytest.raises(CheckpointError, match="export"):
        trained_gpt(file)
