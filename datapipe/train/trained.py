"""A trained GPT, made anew from where a run or an export left it.

What enters: a run's folder, one of its step folders, or an exported safetensors file. What leaves: the model, in eval
mode, and the step it is of. Invariant: its shape is what the checkpoint or the file says, never a guess; nothing is
unpickled.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datapipe.errors import CheckpointError, ConfigError
from datapipe.train.checkpoint import load_checkpoint
from datapipe.train.checkpoint_files import faults
from datapipe.train.checkpoint_loading import as_saved
from datapipe.train.export import write_model
from datapipe.train.model import GPT, GPTConfig

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping


def trained_gpt(place: str | os.PathLike[str]) -> tuple[GPT, int]:
    """(the model on the CPU, optimizer steps done).

    Args:
        place: of a run's folder the newest checkpoint is read.

    Raises:
        CheckpointError: there is nothing, it is damaged, or the weights do not fit the shape it says.
        ConfigError: its model is no built-in GPT.
    """
    path = Path(place)
    if path.is_file():
        return _from_file(path)
    point = load_checkpoint(path)
    with as_saved(point):
        shape = point.state["config"].get("model")
    model = _made(shape, path)
    point.load_model(model)
    return model.eval(), point.step


def _made(shape: Any, path: Path) -> GPT:
    if not isinstance(shape, dict):
        raise ConfigError(
            f"{path} is of a model that was given to the run",
            expected="the built-in GPT, whose shape the checkpoint says",
            fix="load it in Python: load_checkpoint(…).load_model(model)",
        )
    return GPT(_config(shape))


def _config(shape: Mapping[str, Any]) -> GPTConfig:
    try:
        return GPTConfig(**shape)
    except TypeError as error:
        raise CheckpointError(f"a shape of {dict(shape)!r}", expected="that of a GPT") from error


def _from_file(path: Path) -> tuple[GPT, int]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    fix = "datapipe export RUN FILE"
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
        shape, step = json.loads(told["model"]), int(told["step"])
        tensors = load_file(path)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: {error!r}", expected="an exported model", fix=fix) from error
    model = _made(shape, path)
    try:
        model.load_state_dict({name: value.float() for name, value in tensors.items()})
    except RuntimeError as error:
        raise CheckpointError(f"{path}: {' '.join(str(error).split())[:400]}", expected=f"{shape}", fix=fix) from error
    return model.eval(), step


def save_gpt(model: GPT, path: str | os.PathLike[str], *, step: int) -> Path:
    """Write a GPT as an exported file, which `trained_gpt` reads; one that is there is replaced at once or not at all.

    Raises:
        NoSpaceError: no room; what was there still is. CheckpointError: it cannot be written.
    """
    target = Path(path)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with faults(f"{target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_model(target, tensors, step=step, shape=asdict(model.config), like=target.parent)
    return target
