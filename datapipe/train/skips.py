"""Batches that a run is told to pass over: `TrainConfig(skip={103: 1})`.

What enters: the config, and what a checkpoint was told. What leaves: the loader, behind those batches. Invariant: a
skip is done once in a run's life, between the steps it stands between, however often the run is stopped: a checkpoint
of that step is from before it, later ones hold it in the loader's state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datapipe.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.train.batches import Batches
    from datapipe.train.config import TrainConfig


def check_skips(config: TrainConfig, saved: Mapping[str, Any], step: int) -> None:
    """Refuse a skip that a checkpoint of this step is already past, or lacks.

    Raises:
        CheckpointError: what is told and what was done differ.
    """
    done = {int(at): batches for at, batches in saved.get("skip", {}).items() if int(at) < step}
    told = {at: batches for at, batches in config.skip.items() if at < step}
    if done != told:
        raise CheckpointError(
            f"skip={dict(config.skip)}, and the checkpoint of step {step} was trained with skip={done} before it",
            expected=f"the same up to step {step - 1}",
            fix='a skip at a later step; or the checkpoint before it, by moving later ones away; or resume="fresh"',
        )


def pass_over(config: TrainConfig, batches: Batches, step: int) -> None:
    """Do what is told for where `step` steps are done."""
    if step in config.skip:
        batches.skip(config.skip[step])
