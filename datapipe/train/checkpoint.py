"""Checkpoints on disk: a folder a step, there whole or not at all.

    checkpoints/step-00000100/model.safetensors        what has been learnt, whole or one file a rank
                              optimizer.safetensors    see `checkpoint_storage`
                              state.json               step, config, loader, random generators; which tensor lies
                                                       where; checksums of all files

What enters: such a folder. What leaves: a `Checkpoint` that was checked against its checksums. Invariant: a folder
named `step-…` was complete and synced before it got that name, so whatever killed the process, the newest one is good;
nothing is unpickled. Version 1, of one process and without the index, reads as well.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import CheckpointError
from datapipe.train.checkpoint_files import faults, file_record

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from torch import Tensor, nn

VERSION: Final = 2
FOLDER: Final = "checkpoints"
_WHOLE: Final = {part: f"{part}.safetensors" for part in ("model", "optimizer")}
"""The files of version 1."""
STATE: Final = "state.json"
_NAME: Final = re.compile(r"step-(\d{8,})")
_ELSE: Final = 'resume="fallback" to go on from the one before it, or delete the folder'


@final
@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint whose checksums are right.

    Attributes:
        path: its folder. step: optimizer steps done.
        state: what was saved beside the tensors: `config`, `loader`, `random` (one a rank); `tensors`: where each lies;
            `score`: what it is kept by, if it is kept as the best.
    """

    path: Path
    step: int
    state: Mapping[str, Any]

    def model_tensors(self) -> dict[str, Tensor]:
        """The weights by name, put together on the CPU; of tied weights only the first name is there."""
        return self._part("model")

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """The optimizer's state, `<parameter>/<moment>` → tensor, put together on the CPU."""
        return self._part("optimizer")

    def load_model(self, model: nn.Module) -> None:
        """Put the weights into a model of the same shape; each rank of a sharded one takes its own.

        Raises:
            CheckpointError: it is of another shape.
        """
        from datapipe.train.checkpoint_loading import load_model

        load_model(self, model)

    def _part(self, part: str) -> dict[str, Tensor]:
        from datapipe.train.checkpoint_storage import whole_tensors

        return whole_tensors(self.path, self.state["tensors"], part)


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


def prune(folder: Path, keep: int, *, best: bool = False) -> None:
    """Remove all but the newest `keep` step folders; with `best`, that of the lowest score stays too."""
    found = checkpoints(folder)
    scores = {path: score for path in found if best and (score := _score(path)) is not None}
    lowest = min(scores, key=lambda path: scores[path]) if scores else None
    for old in found[:-keep]:
        if old != lowest:
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


def sealed(body: Mapping[str, Any]) -> str:
    """The text of a state.json, with its checksum."""
    return json.dumps({**body, "checksum": _checksum(body)})


def _read(path: Path) -> Checkpoint:
    from datapipe.train.checkpoint_index import check_names, checked_index, index_of_files

    try:
        body = json.loads((path / STATE).read_text(encoding="utf-8"))
        version, checksum, step = body["version"], body.pop("checksum"), body["step"]
        files = {str(name): dict(record) for name, record in body["files"].items()}
    except OSError as error:
        raise CheckpointError(
            f"{path}: {STATE} cannot be read ({error.strerror})", expected="a whole checkpoint", fix=_ELSE
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: {STATE} is damaged ({error!r})", expected="what was saved", fix=_ELSE
        ) from error
    if version not in (1, VERSION):
        raise CheckpointError(
            f"{path}: version {version!r}", expected=f"version {VERSION}",
            fix="resume with the datapipe version that saved it",
        )  # fmt: skip
    if checksum != _checksum(body):
        raise CheckpointError(f"{path}: {STATE} is damaged", expected=f"checksum {checksum}", fix=_ELSE)
    try:
        check_names(files)
    except ValueError as error:
        raise CheckpointError(f"{path}: {STATE} has {error}", expected="files of its folder", fix=_ELSE) from error
    if type(step) is not int or step < 0:
        raise CheckpointError(f"{path}: {STATE} has step {step!r}", expected="a whole number from 0", fix=_ELSE)
    for name, record in files.items():
        try:
            got = file_record(path / name)
        except OSError as error:
            raise CheckpointError(
                f"{path}: {name} cannot be read ({error.strerror})", expected="a whole checkpoint", fix=_ELSE
            ) from error
        if got != record:
            raise CheckpointError(f"{path}: {name} is damaged ({got})", expected=f"{record}", fix=_ELSE)
    try:
        index = body["tensors"] if version == VERSION else index_of_files(path, _WHOLE)
        body["tensors"] = checked_index(index, files)
        return Checkpoint(path=path, step=step, state=body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: {STATE} is damaged ({error})", expected="an index of its tensors", fix=_ELSE
        ) from error


def _score(path: Path) -> float | None:
    """Of an unread step folder, if it says one."""
    try:
        score = float(json.loads((path / STATE).read_text(encoding="utf-8"))["score"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    return score if math.isfinite(score) else None


def _checksum(body: Mapping[str, Any]) -> str:
    """Of the JSON with sorted keys: what a reader gets back, however it was laid out."""
    import xxhash

    return xxhash.xxh3_128_hexdigest(json.dumps(body, sort_keys=True).encode())
