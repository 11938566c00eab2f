"""What was out of the ordinary, on disk: `spikes.jsonl`, a line each, with the rows of the step's batches.

    {"step": 104, "what": "loss", "value": 9.1, "limit": 4.2, "action": "skip", "loss": 9.1, "grad_norm": 3.0,
     "batches": [{"epoch": 0, "batch": 103, "rows": [512, 7, …]}], "loader": {…}}

What enters: a spike and the loader that gave the batches. What leaves: a line, which outlives the process. Invariant:
after a resume from step n the lines of steps up to n are there, and no others. `Dataset.take(rows)` shows the rows, of
every rank's share; a loader that cannot tell them leaves null.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.train.metrics_log import MetricsLog

if TYPE_CHECKING:
    from pathlib import Path

    from datapipe.train.batches import ResumableLoader
    from datapipe.train.spikes import Spike
    from datapipe.train.step import Gradient

SPIKES: Final = "spikes.jsonl"


@final
@dataclass(frozen=True, kw_only=True)
class SpikeRecord:
    """One line: a step (counted from 1) whose loss or gradient was out of the ordinary, and what was done about it."""

    step: int
    spike: Spike
    action: str
    gradient: Gradient
    batches: Any
    loader: Any

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        loss, norm = self.gradient.loss, self.gradient.norm
        return {
            "step": self.step, **self.spike.as_dict(), "action": self.action,
            "loss": loss if math.isfinite(loss) else None, "grad_norm": norm if math.isfinite(norm) else None,
            "batches": self.batches, "loader": self.loader,
        }  # fmt: skip


@final
class SpikeLog:
    """The file of one run's spikes; it is made with the first.

    Args:
        steps: lines of later steps are cut off.
        writes: whether this process does; of several that train together one does, for the rows of all.
    """

    def __init__(self, folder: Path, *, steps: int, writes: bool = True) -> None:
        self.path = folder / SPIKES
        self._writes = writes
        if writes and self.path.exists():
            with MetricsLog(self.path, steps=steps):
                pass

    def write(
        self, step: int, spike: Spike, action: str, *, gradient: Gradient, loader: ResumableLoader, batches: int
    ) -> None:
        """Add a line.

        Args:
            batches: global batches of the step, the last that the loader gave.

        Raises:
            NoSpaceError, CheckpointError: it cannot be written.
        """
        if not self._writes:
            return
        tell = getattr(loader, "last_rows", None)
        record = SpikeRecord(
            step=step, spike=spike, action=action, gradient=gradient,
            batches=tell(batches) if callable(tell) else None, loader=loader.state_dict(),
        )  # fmt: skip
        with MetricsLog(self.path, steps=step) as log:
            log.write(record)
