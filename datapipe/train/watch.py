"""What looks at a run while it goes: each step's gradient before the update, and the evaluations.

What enters: gradients, and a loader to evaluate on. What leaves: a `Finding` where something is out of the ordinary, an
evaluation when it is due, and whether the run should go on. Invariant: nothing here changes a weight; what it says
depends on the run's steps alone, and its state is in every checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from datapipe.errors import TrainError
from datapipe.train.evaluation import Best, evaluate
from datapipe.train.spike_log import SpikeLog
from datapipe.train.spikes import MOST_SKIPPED, Sentinel, Spike

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from datapipe.train.batches import ResumableLoader
    from datapipe.train.config import TrainConfig
    from datapipe.train.evaluation import EvaluationLoader
    from datapipe.train.step import Gradient
    from datapipe.train.strategy import Strategy


@final
@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something out of the ordinary at a step, and what is to be done: "record", "skip" or "raise"."""

    step: int
    spike: Spike
    action: str

    @property
    def applied(self) -> bool:
        """Whether the update is done all the same."""
        return self.action == "record"

    def __str__(self) -> str:
        return f"{self.spike}: {'recorded' if self.applied else 'update left out'}"


@final
class Watch:
    """Watches one run.

    Args:
        loader: that of the training, which is asked for the rows of a batch.
        evaluation: None: there are no evaluations. writes: whether this process writes down what is found.

    Attributes:
        best: of the evaluations. found: steps of this process that were out of the ordinary.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        loader: ResumableLoader,
        evaluation: EvaluationLoader | None,
        *,
        writes: bool = True,
    ) -> None:
        self._writes = writes
        self._config = config
        self._folder = folder
        self._loader = loader
        self._evaluation = evaluation
        self._sentinel = Sentinel(sigma=config.spike_sigma, window=config.spike_window)
        self._log: SpikeLog | None = None
        self.best = Best()
        self.found = 0

    def begin(self, step: int) -> None:
        """The run begins, or goes on, with so many steps done."""
        self._log = SpikeLog(self._folder, steps=step, writes=self._writes)

    def look(self, step: int, gradient: Gradient) -> Finding | None:
        """What is out of the ordinary in a step (counted from 1), written down; None: nothing is.

        Raises:
            TrainError: the step's batches have no target.
        """
        if not gradient.targets:
            raise TrainError(
                f"step {step}: its batches have no target",
                expected="two tokens of one document in a row",
                fix="look at the dataset's segment_ids, or use a larger batch_size",
            )
        sentinel, spike = self._sentinel, self._sentinel.judge(gradient)
        if spike is None:
            sentinel.in_a_row = 0
            return None
        self.found += 1
        # What is no number is never applied.
        action = "raise" if spike.limit is None and self._config.on_spike == "record" else self._config.on_spike
        sentinel.in_a_row = sentinel.in_a_row + 1 if action == "skip" else 0
        if sentinel.in_a_row > MOST_SKIPPED:
            action = "raise"
        assert self._log is not None
        self._log.write(step, spike, action, gradient=gradient, loader=self._loader, batches=self._config.accumulate)
        return Finding(step=step, spike=spike, action=action)

    def fault(self, finding: Finding, newest: Path | None) -> TrainError:
        """The error of a finding that ends the run; `newest`: the checkpoint to go on from."""
        assert self._log is not None
        step, often = finding.step, self._sentinel.in_a_row
        past = f'skip={{"{step - 1}": {self._config.accumulate}}}'
        error = TrainError(
            f"step {step}: {finding.spike}"
            + (f", after {often - 1} updates in a row that were left out" * (often > 1)),
            expected="a finite number, and none far above those before",
            fix=f"go on {f'from {newest.name}, ' if newest is not None else ''}with {past}, which leaves its batches"
            " out; or begin anew with a lower lr, a longer warmup or a smaller clip",
        )
        error.add_note(f"the rows of its batches, and where the loader stood, are in {self._log.path}")
        return error

    @property
    def evaluates(self) -> bool:
        """Whether there is anything to evaluate on."""
        return self._evaluation is not None

    def due(self, step: int) -> bool:
        """Whether an evaluation follows a step."""
        every = self._config.eval_every
        return self._evaluation is not None and (step == self._config.steps or (every > 0 and step % every == 0))

    def evaluate(self, step: int, strategy: Strategy, *, rows: int | None = None) -> tuple[float, bool]:
        """Evaluate after a step, on all ranks: the mean loss, and whether it is the lowest so far.

        Args:
            rows: at once, where a training step's micro-batch is no whole batch; None: whole batches.
        """
        assert self._evaluation is not None
        found = evaluate(
            strategy.model, self._evaluation, device=strategy.device, loss_of=strategy.evaluate,
            reduce=strategy.totals, rows=rows,
        )  # fmt: skip
        return found.loss, self.best.seen(step, found.loss)

    @property
    def out_of_patience(self) -> bool:
        """Whether as many evaluations in a row as the config bears came no lower than the best."""
        return self._config.patience is not None and self.best.since >= self._config.patience

    def state(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"spikes": self._sentinel.state(), "best": self.best.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._sentinel.load(state["spikes"])
        self.best.load(state["best"])
