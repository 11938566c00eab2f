"""Checkpoints: a folder a step, there whole or not at all.

    checkpoints/step-00000100/model.safetensors
                              optimizer.safetensors
                              state.json             step, config, loader, random generators; checksums of all three

What enters: a model, its optimizer and plain JSON. What leaves: such a folder, or a `Checkpoint` that was checked
against its checksums. Invariant: a folder named `step-…` was complete and synced before it got that name, so whatever
killed the process, the newest one is good; nothing is pickled.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import CheckpointError
from datapipe.train.checkpoint_files import faults, file_record, publish_folder, sync_file, temporary_folder

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from torch import Tensor, nn

VERSION: Final = 1
FOLDER: Final = "checkpoints"
MODEL: Final = "model.safetensors"
OPTIMIZER: Final = "optimizer.safetensors"
STATE: Final = "state.json"
_NAME: Final = re.compile(r"step-(\d{8,})")
_ELSE: Final = 'resume="fallback" to go on from the one before it, or delete the folder'


@final
@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint whose checksums are right.

    Attributes:
        path: its folder. step: optimizer steps done.
        state: what was saved beside the tensors: `config`, `loader`, `random`.
    """

    path: Path
    step: int
    state: Mapping[str, Any]

    def model_tensors(self) -> dict[str, Tensor]:
        """The weights by name, on the CPU; of tied weights only one name is there."""
        return _read_tensors(self.path / MODEL)

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """The optimizer's state, `<parameter>/<moment>` → tensor on the CPU."""
        return _read_tensors(self.path / OPTIMIZER)

    def load_model(self, model: nn.Module) -> None:
        """Put the weights into a model of the same shape.

        Raises:
            CheckpointError: it is of another shape.
        """
        from safetensors.torch import load_model

        try:
            load_model(model, self.path / MODEL)
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.path} is of another model: {' '.join(str(error).split())[:400]}",
                expected="the model that was saved",
                fix="make the model as state.json's config says, or train into another folder",
            ) from error


def checkpoints(out: str | os.PathLike[str]) -> list[Path]:
    """The step folders of a run (its `out`, or its `checkpoints` folder), oldest first, unread."""
    root = Path(out)
    root = root / FOLDER if (root / FOLDER).is_dir() else root
    found = [(int(match[1]), path) for path in root.glob("step-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def latest_checkpoint(out: str | os.PathLike[str]) -> Path | None:
    """The newest step folder of a run, or None."""
    found = checkpoints(out)
    return found[-1] if found else None


def load_checkpoint(path: str | os.PathLike[str], *, fallback: bool = False) -> Checkpoint:
    """Read and check a checkpoint.

    Args:
        path: a step folder, or a run's folder: then its newest.
        fallback: of a run's folder, pass over damaged ones to the newest that is good.

    Raises:
        CheckpointError: there is none, or it is damaged; the message says which file.
    """
    if (Path(path) / STATE).exists() or _NAME.fullmatch(Path(path).name):
        return _read(Path(path))
    found = checkpoints(path)
    if not found:
        raise CheckpointError(
            f"no checkpoint in {path}", expected=f"a folder with {FOLDER}/step-…", fix="check the path"
        )
    while True:
        newest = found.pop()
        try:
            return _read(newest)
        except CheckpointError:
            if not (fallback and found):
                raise


def save_checkpoint(
    folder: Path, *, step: int, model: nn.Module, optimizer: Mapping[str, Tensor], state: Mapping[str, Any], keep: int
) -> Path:
    """Write `folder/step-…` atomically and durably, then remove all but the newest `keep`.

    Args:
        folder: the run's `checkpoints` folder.
        optimizer: flat named tensors.
        state: plain JSON.

    Raises:
        NoSpaceError: the disk is full. CheckpointError: it cannot be written. Earlier ones are intact.
    """
    from safetensors.torch import save_file, save_model

    target = folder / f"step-{step:08d}"
    with faults(f"checkpoint {target}"), temporary_folder(folder, target.name) as temporary:
        save_model(model, str(temporary / MODEL))
        save_file(dict(optimizer), temporary / OPTIMIZER)
        body = {
            "version": VERSION,
            "step": step,
            "files": {name: file_record(temporary / name) for name in (MODEL, OPTIMIZER)},
            **state,
        }
        text = json.dumps({**body, "checksum": _checksum(body)}, indent=1)
        (temporary / STATE).write_text(text, encoding="utf-8")
        mode = (temporary / STATE).stat().st_mode & 0o777
        for name in (MODEL, OPTIMIZER, STATE):
            (temporary / name).chmod(mode)  # safetensors makes its files readable for their owner alone
            sync_file(temporary / name)
        publish_folder(temporary, target)
    prune(folder, keep)
    return target


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` step folders."""
    for old in checkpoints(folder)[:-keep]:
        remove(old)


def set_aside(path: Path) -> None:
    """Take a damaged step folder out of the run, for somebody to look at: `damaged-step-…`."""
    with faults(f"renaming {path}"):
        aside = path.with_name(f"damaged-{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)


def remove(path: Path) -> None:
    """Remove a step folder: renamed first, so that half of one never bears its name."""
    with faults(f"removing {path}"):
        away = path.rename(path.with_name(f".old-{path.name}"))
        shutil.rmtree(away)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written or half-removed. Only the one process that trains here may."""
    with faults(f"clearing {folder}"):
        for pattern in (".tmp-step-*", ".old-step-*"):
            for left in folder.glob(pattern):
                shutil.rmtree(left)


def _read(path: Path) -> Checkpoint:
    try:
        body = json.loads((path / STATE).read_text(encoding="utf-8"))
        version, checksum, step = body["version"], body.pop("checksum"), body["step"]
        files = {str(name): dict(record) for name, record in body["files"].items()}
    except OSError as error:
        raise CheckpointError(
            f"{path}: {STATE} cannot be read ({error.strerror})", expected="a whole checkpoint", fix=_ELSE
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: {STATE} is damaged ({error!r})", expected="what was saved", fix=_ELSE
        ) from error
    if version != VERSION:
        raise CheckpointError(
            f"{path}: version {version!r}", expected=f"version {VERSION}",
            fix="resume with the datapipe version that saved it",
        )  # fmt: skip
    if checksum != _checksum(body):
        raise CheckpointError(f"{path}: {STATE} is damaged", expected=f"checksum {checksum}", fix=_ELSE)
    for name in (MODEL, OPTIMIZER):
        try:
            got = file_record(path / name)
        except OSError as error:
            raise CheckpointError(
                f"{path}: {name} cannot be read ({error.strerror})", expected="a whole checkpoint", fix=_ELSE
            ) from error
        if got != files.get(name):
            raise CheckpointError(f"{path}: {name} is damaged ({got})", expected=f"{files.get(name)}", fix=_ELSE)
    return Checkpoint(path=path, step=int(step), state=body)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})", fix=_ELSE) from error
    return tensors


def _checksum(body: Mapping[str, Any]) -> str:
    """Of the JSON with sorted keys: what a reader gets back, however it was laid out."""
    import xxhash

    return xxhash.xxh3_128_hexdigest(json.dumps(body, sort_keys=True).encode())
