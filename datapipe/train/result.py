"""What a run reports: one record a step while it goes, and where it came to at its end."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from pathlib import Path


@final
@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One step.

    Attributes:
        step: counted from 1: how many steps the run has done with this one.
        loss: mean over the step's targets, nats.
        lr: of its update.
        grad_norm: of the mean gradient, before clipping.
        tokens: targets that the loss is over.
        rows: rows of its batches.
        tokens_per_s: targets over the step's wall time, the wait included.
        wait_ms: the loop had no batch.
        compute_ms: forward, backward and update (on a GPU, until the gradient is there).
        epoch: of its last batch, counted by this process's passes over the loader where the loader does not say.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    rows: int
    tokens_per_s: float
    wait_ms: float
    compute_ms: float
    epoch: int

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


@final
@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Where a run came to.

    Attributes:
        step: steps done over the whole run.
        resumed_from: the step of the checkpoint that this process began at; 0: from the beginning.
        losses: of the steps that this process did.
        tokens, seconds: of this process: targets learnt from, wall time of its steps.
        stopped: None: the run is complete; "until": as asked; "SIGTERM" or "SIGINT": by that signal.
        checkpoint: the newest.
        metrics: the run's log, JSON lines, one a step.
        device, precision, parameters: as computed.
        model: the trained model.
    """

    step: int
    resumed_from: int
    losses: tuple[float, ...]
    tokens: int
    seconds: float
    stopped: str | None
    checkpoint: Path
    metrics: Path
    device: str
    precision: str
    parameters: int
    model: Any

    @property
    def tokens_per_s(self) -> float:
        """Targets a second over this process's steps."""
        return self.tokens / self.seconds if self.seconds else 0.0
