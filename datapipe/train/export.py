"""A checkpoint's weights as one safetensors file, for whatever else reads those.

What enters: a run's folder or one of its step folders. What leaves: a file with the whole weights under the plain
model's names, however many ranks wrote the checkpoint. Invariant: the file is there whole or not at all, and is made
of a checkpoint whose checksums are right.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError
from datapipe.train.checkpoint import load_checkpoint
from datapipe.train.checkpoint_files import faults, readable_as_usual, sync_file, sync_folder

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from torch import Tensor

DTYPES: Final = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@final
@dataclass(frozen=True, kw_only=True)
class Exported:
    """An exported file.

    Attributes:
        path: of the file. checkpoint: the step folder that it is of. step: optimizer steps done.
        tensors: how many. parameters: numbers in them. bytes: of the file.
    """

    path: str
    checkpoint: str
    step: int
    tensors: int
    parameters: int
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def export_model(
    run: str | os.PathLike[str], path: str | os.PathLike[str], *, dtype: str | None = None, overwrite: bool = False
) -> Exported:
    """Write the weights of a checkpoint into one safetensors file.

    Of tied weights the first name alone is there. The header's metadata holds `format` ("pt"), `step` and `model`: the
    GPT's shape as JSON, or "null" for a model that was given.

    Args:
        run: a run's folder (its newest checkpoint) or a `step-…` folder.
        path: of the file; its folder is there.
        dtype: "fp32", "bf16" or "fp16": of the floating numbers. None: as they were trained.
        overwrite: replace a file that is there.

    Raises:
        ConfigError: another dtype, or the file is there. CheckpointError: there is no checkpoint, or it is damaged.
        NoSpaceError: no room; what was there still is.
    """
    import torch

    target = Path(path)
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"dtype={dtype!r}", expected=", ".join(DTYPES))
    if target.is_dir() or (target.exists() and not overwrite):
        raise ConfigError(f"{target} is there already", fix="another name, or overwrite it (--overwrite)")
    if not target.absolute().parent.is_dir():
        raise ConfigError(f"no folder {target.parent}", fix=f"mkdir -p {target.parent}")
    point = load_checkpoint(run)
    tensors = point.model_tensors()
    if dtype is not None:
        wanted = getattr(torch, DTYPES[dtype])
        tensors = {name: value.to(wanted) if value.is_floating_point() else value for name, value in tensors.items()}
    shape = point.state.get("config", {}).get("model")
    write_model(target, tensors, step=point.step, shape=shape, like=point.path)
    return Exported(
        path=str(target), checkpoint=str(point.path), step=point.step, tensors=len(tensors),
        parameters=sum(value.numel() for value in tensors.values()), bytes=target.stat().st_size,
    )  # fmt: skip


def write_model(
    target: Path, tensors: dict[str, Tensor], *, step: int, shape: Mapping[str, Any] | None, like: Path
) -> None:
    """An exported file: there whole or not at all, and what was there before stays if it cannot be written.

    Args:
        shape: of the built-in GPT, else None. like: a folder made by mkdir(), whose mode says who may read.

    Raises:
        NoSpaceError: no room. CheckpointError: it cannot be written.
    """
    from safetensors.torch import save_file

    temporary = target.with_name(f".tmp-{target.name}")
    try:
        with faults(f"{target}"):
            save_file(tensors, temporary, metadata={"format": "pt", "step": str(step), "model": json.dumps(shape)})
            readable_as_usual(temporary, like)
            sync_file(temporary)
            temporary.replace(target)
            sync_folder(target.absolute().parent)
    finally:
        temporary.unlink(missing_ok=True)
