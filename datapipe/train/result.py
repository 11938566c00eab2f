"""What a run reports: one record a step while it goes, and where it came to at its end.

What enters: numbers of the loop. What leaves: frozen records, JSON-able. Invariant: they hold plain values, and no
tensor outlives its step in them, but for the model itself.
"""

from __future__ import annotations

import math
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
        stall: the share of its wall time in which the loop had no batch.
        memory: bytes, the most so far: of the device's tensors on CUDA, else of the process.
        mfu: the share of the device's peak, see `datapipe.train.meter`; None: not known.
        eval_loss: mean over the targets of the evaluation after it; None: there was none.
        spike: what was out of the ordinary and what was done about it; None: nothing.
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
    stall: float = 0.0
    memory: int = 0
    mfu: float | None = None
    eval_loss: float | None = None
    spike: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON: what is not known is left out, and a number that is none (of a step left out) is null."""
        told = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in told.items()}  # fmt: skip


@final
@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Where a run came to.

    Attributes:
        step: steps done over the whole run.
        resumed_from: the step of the checkpoint that this process began at; 0: from the beginning.
        losses: of the steps that this process did.
        tokens, seconds: of this process: targets learnt from, wall time of its steps.
        stopped: None: the run is complete; "until": as asked; "SIGTERM" or "SIGINT": by that signal; "patience": the
            evaluations came no lower.
        checkpoint: the newest. best: that of the lowest evaluation; None: there was none. best_loss: its.
        spikes: steps of this process that were out of the ordinary, see `spikes.jsonl`. overflows: steps of the whole
            run that float16's loss scale made overflow, and that changed nothing.
        metrics: the run's log, JSON lines, one a step.
        device, precision, parameters: as computed. micro_batch: rows at once in the last step; None: whole batches.
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
    best: Path | None = None
    best_loss: float | None = None
    spikes: int = 0
    overflows: int = 0
    micro_batch: int | None = None

    @property
    def tokens_per_s(self) -> float:
        """Targets a second over this process's steps."""
        return self.tokens / self.seconds if self.seconds else 0.0
