"""All that a run would need to go on: what a checkpoint is made of, and how a run is put where one says.

What enters: the model, its optimizer, the loader and the random generators of every rank. What leaves: a checkpoint
begun, or these in the state of one. Invariant: a run put back computes what it would have, to the bit on the same
device and number of ranks. Damaged checkpoints that were passed over bear another name afterwards.

On another number of replicas the learnt numbers, the loader's place and the schedule are the same; the random
generators of each are then drawn from the seed, the step and its number, as there is no state of theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

import torch.distributed as dist

from datapipe.errors import CheckpointError
from datapipe.train import checkpoint, random_state
from datapipe.train.checkpoint_loading import as_saved, load_model, load_optimizer, on_first
from datapipe.train.checkpoint_saver import Saver
from datapipe.train.config import FREE
from datapipe.train.model_state import model_state, optimizer_state

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from torch import nn

    from datapipe.train.batches import ResumableLoader
    from datapipe.train.checkpoint import Checkpoint
    from datapipe.train.config import TrainConfig
    from datapipe.train.ranks import Ranks

_STEP_PRIME: Final = 1_000_003
"""Keeps the seeds of (step, rank) apart for up to a million ranks."""


@final
class RunState:
    """The state of one run, and its checkpoints.

    Args:
        folder: the run's; every rank sees it. Where torch.distributed is initialised, all ranks make this together.
        scaler: of fp16's losses, if there is one. ranks: which of them share a replica; None: none do.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loader: ResumableLoader,
        device: torch.device,
        *,
        scaler: Any = None,
        ranks: Ranks | None = None,
    ) -> None:
        self._config = config
        self._root = folder / checkpoint.FOLDER
        self._model = model
        self._optimizer = optimizer
        self._loader = loader
        self._device = device
        self._scaler = scaler
        # A group of its own, on the CPU: the thread that writes must not come between the gradients' collectives.
        self._group: Any = dist.new_group(backend="gloo") if dist.is_initialized() else None
        self._rank = 0 if self._group is None else dist.get_rank(self._group)
        self._ranks = 1 if self._group is None else dist.get_world_size(self._group)
        # Ranks that hold one replica together draw alike: a generator a share of the batches, not a rank.
        self._share = self._rank if ranks is None else ranks.data_rank
        self._shares = self._ranks if ranks is None else ranks.data_size
        self.saver = Saver(
            self._root, keep=config.keep, best=config.keep_best, lag=config.checkpoint_lag, group=self._group
        )

    def save(self, step: int, *, score: float | None = None, more: Mapping[str, Any] | None = None) -> None:
        """Begin a checkpoint; all ranks at the same step.

        Args:
            score: by which the best is kept, the lower the better.
            more: plain JSON that comes back in the state of the checkpoint.

        Raises:
            NoSpaceError, CheckpointError: as of `Saver.save`.
        """
        # The thread that writes the one before talks over the group too: two at once would read each other's messages.
        self.saver.wait()
        mine = (self._share, random_state.capture(self._device))
        drawn = [mine] * self._ranks
        if self._group is not None:
            dist.all_gather_object(drawn, mine, group=self._group)
        generators = dict(drawn)
        state = {
            "config": self._config.as_dict(),
            "config_fingerprint": self._config.fingerprint,
            "loader": self._loader.state_dict(),
            "random": [generators[share] for share in range(self._shares)],
            "scaler": None if self._scaler is None else self._scaler.state_dict(),
            **(more or {}),
        }
        self.saver.save(
            step, model_state(self._model) | optimizer_state(self._model, self._optimizer), state, score=score
        )

    def resume(self, how: str) -> Checkpoint | None:
        """Put everything where the newest checkpoint says, if there is one; what was killed half-way is cleared.

        Args:
            how: as `train(resume=…)`.

        Raises:
            CheckpointError: it is damaged, of another run, or there has to be one. StateError: of another dataset.
        """
        point = on_first(self._group, lambda: self._found(how))
        if point is None:
            return None
        with as_saved(point):
            told = self._config.differences(point.state["config"])
            place, scale = point.state["loader"], dict(point.state.get("scaler") or {})
        if told:
            raise CheckpointError(
                f"{point.path} is of another run: {'; '.join(told)}",
                expected=f"the same configuration, but for {', '.join(sorted(FREE))}",
                fix='the values it was saved with, another folder, or resume="fresh"',
            )
        load_model(point, self._model)
        load_optimizer(point, self._model, self._optimizer)
        self._loader.load_state_dict(place)
        if self._scaler is not None and scale:
            self._scaler.load_state_dict(scale)
        with as_saved(point):
            self._restore_generators(point)
        self.saver.newest = point.path
        on_first(self._group, lambda: self._tidy(point))
        return point

    def _found(self, how: str) -> Checkpoint | None:
        checkpoint.sweep(self._root)
        found = checkpoint.checkpoints(self._root)
        if how == "fresh":
            for path in found:
                checkpoint.remove(path)
            return None
        if found:
            return checkpoint.load_checkpoint(self._root, fallback=how == "fallback")
        if how == "must":
            raise CheckpointError(f"no checkpoint in {self._root}", fix='resume="auto" to begin at step 0')
        return None

    def _restore_generators(self, point: Checkpoint) -> None:
        saved = point.state["random"]
        generators = saved if isinstance(saved, list) else [saved]  # version 1 knew one process
        if len(generators) == self._shares:
            random_state.restore(generators[self._share], self._device)
        else:
            place = self._config.seed + (point.step * _STEP_PRIME + self._share + 1) % (1 << 31)
            random_state.seed_everything(place)

    def _tidy(self, point: Checkpoint) -> None:
        found = checkpoint.checkpoints(self._root)
        # Damaged ones that were passed over must not be the newest of the next start.
        for path in found[found.index(point.path) + 1 :]:
            checkpoint.set_aside(path)
        # A process may have been killed before it did.
        checkpoint.prune(self._root, self._config.keep, best=self._config.keep_best)
