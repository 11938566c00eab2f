"""A run's figures for TensorBoard: scalars by step, in a folder that `tensorboard --logdir` opens.

What enters: `LiveFigures` of a profile, or the `StepRecord`s of a training run. What leaves: event files, through
torch's own writer. Invariant: one point per look and per step number; a look that saw no new step adds nothing.

Needs `tensorboard`, which is imported when this is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    import os

    from datapipe.profiling.live import LiveFigures
    from datapipe.train import StepRecord


@final
class TensorBoard:
    """Give it to `datapipe.profile(..., live=[TensorBoard("runs/tb")])`.

    Args:
        folder: where the event files go.

    Raises:
        ConfigError: torch or tensorboard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._writer = _writer(folder)
        self._step = -1

    def __call__(self, figures: LiveFigures) -> None:
        """Write the figures at their step."""
        if figures.steps <= self._step:
            return
        self._step = figures.steps
        add = self._writer.add_scalar
        add("datapipe/step_seconds", figures.step_seconds, figures.steps)
        add("datapipe/stall_ratio", figures.stall, figures.steps)
        if figures.resident_bytes is not None:
            add("datapipe/resident_memory_bytes", figures.resident_bytes, figures.steps)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


_SCALARS: Final = ("loss", "lr", "grad_norm", "tokens_per_s", "stall", "memory", "mfu", "eval_loss")


@final
class StepScalars:
    """Give it to `datapipe.train.train(..., on_step=StepScalars("runs/a/tensorboard"))`.

    Args:
        folder: where the event files go. A run that goes on writes from its checkpoint's step; TensorBoard shows the
            newest point of a step.

    Raises:
        ConfigError: torch or tensorboard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._writer = _writer(folder)

    def __call__(self, record: StepRecord) -> None:
        """Write a step's scalars, those that are known."""
        for name in _SCALARS:
            value = getattr(record, name)
            if value is not None:
                self._writer.add_scalar(f"train/{name}", value, record.step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def _writer(folder: str | os.PathLike[str]) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            f"TensorBoard cannot be written: {error}", fix="pip install 'datapipe-toolkit[live]', or leave it out"
        ) from error
    return SummaryWriter(str(folder))
