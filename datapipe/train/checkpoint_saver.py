"""Writes a run's checkpoints while it goes on.

    save → a copy on the CPU → a thread: every rank's files → state.json → sync → the folder gets its name → old ones go
                  │ the run goes on from here

What enters: live tensors and plain JSON. What leaves: step folders as `checkpoint` reads them. Invariant: at most one
is being written; the run is never more than `lag` steps ahead of it; what the write raised is raised in the run by
then, and leaves every earlier checkpoint as it was.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Any, final

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.state_dict_saver import async_save

from datapipe.errors import DatapipeError
from datapipe.train import checkpoint
from datapipe.train.checkpoint_files import faults, publish_folder, sync_file
from datapipe.train.checkpoint_loading import in_our_words, quiet_without_ranks
from datapipe.train.checkpoint_storage import SafetensorsWriter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future
    from pathlib import Path
    from types import TracebackType

    from torch import Tensor


@final
class Saver:
    """Writes into one run's `checkpoints` folder.

    Args:
        folder: one that every rank sees.
        keep: the newest to keep. best: keep that of the lowest score besides.
        lag: steps that may be done while one is being written; see `due`.
        group: all ranks, on the CPU (gloo), used by nobody else: the thread that writes talks over it; None: one
            process.
    """

    def __init__(
        self, folder: Path, *, keep: int, best: bool = False, lag: int = 0, group: dist.ProcessGroup | None = None
    ) -> None:
        self._folder = folder
        self._keep = keep
        self._best = best
        self._lag = lag
        self._group = group
        self._rank = 0 if group is None else dist.get_rank(group)
        self._ranks = 1 if group is None else dist.get_world_size(group)
        self._writing: tuple[int, Path, Future[Any]] | None = None
        self.newest: Path | None = None

    def save(
        self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, score: float | None = None
    ) -> None:
        """Copy the tensors (`<part>/<name>`) and begin to write them; all ranks at the same step.

        Args:
            state: plain JSON; the first rank's is written.
            score: by which the best is kept, the lower the better.

        Raises:
            NoSpaceError, CheckpointError: of the one before, which is waited for; or, where nothing is written beside
                the run (`lag` 0), of this one.
        """
        self.wait()
        target = self._folder / f"step-{step:08d}"
        temporary = self._folder / f".tmp-{target.name}"

        def begin() -> None:
            with faults(f"checkpoint {target}"):
                self._folder.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir()

        def commit(index: dict[str, Any], files: dict[str, Any]) -> None:
            body = {
                "version": checkpoint.VERSION, "step": step, "score": score, "files": files, "tensors": index, **state
            }  # fmt: skip
            with faults(f"checkpoint {target}"):
                (temporary / checkpoint.STATE).write_text(checkpoint.sealed(body), encoding="utf-8")
                sync_file(temporary / checkpoint.STATE)
                publish_folder(temporary, target)
            checkpoint.prune(self._folder, self._keep, best=self._best)

        # By parts, which the planner flattens to "<part>.<name>": torch logs twice for each entry of the outer dict,
        # which took half of the time that the run stood still (65 of 120 ms for 900 small tensors).
        parts: dict[str, dict[str, Tensor]] = {}
        for full, tensor in tensors.items():
            part, _, name = full.partition("/")
            parts.setdefault(part, {})[name] = tensor
        quiet_without_ranks()
        begun: Any = async_save(
            parts,
            storage_writer=SafetensorsWriter(temporary, rank=self._rank, ranks=self._ranks, begin=begin, commit=commit),
            planner=DefaultSavePlanner(flatten_sharded_tensors=False),
            process_group=self._group,
        )
        self._writing = (step, target, getattr(begun, "upload_completion", begun))
        if not self._lag:
            self.wait()

    def due(self, step: int) -> bool:
        """Whether to `wait` before step `step` counts as done: a write is over, or was begun `lag` steps ago.

        So a run that is killed has lost `lag - 1` steps more than an interval at most, and with a lag of 1 none: the
        step after a checkpoint is computed while that is written, and does not count before.
        """
        return self._writing is not None and (self._writing[2].done() or step >= self._writing[0] + self._lag)

    def wait(self) -> None:
        """Wait for the one being written.

        Raises:
            NoSpaceError, CheckpointError: it could not be; earlier ones are whole.
        """
        if self._writing is None:
            return
        _, target, future = self._writing
        fault = future.exception()
        self._writing = None
        if fault is None:
            self.newest = target
            return
        if self._rank == 0:
            shutil.rmtree(target.with_name(f".tmp-{target.name}"), ignore_errors=True)
        if not isinstance(fault, (Exception, CheckpointException)):
            raise fault
        raise in_our_words(fault, f"checkpoint {target}") from fault

    def end(self) -> Path | None:
        """Let the write end, whatever comes of it: something else is about to be raised. The newest that is whole."""
        with contextlib.suppress(DatapipeError):
            self.wait()
        return self.newest

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let the write end; a fault of it does not hide what ended the block."""
        if error is None:
            self.wait()
        else:
            self.end()
