"""One trial: trained rung by rung in a folder of its own, and what its log says of it.

What enters: a contender and the amount of a rung. What leaves: a loss at the rung, comparable between trials.
Invariant: how far a trial is stands in its folder alone (its checkpoints and its log), so that a kill loses no more of
it than of any run: the steps since its last checkpoint.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError
from datapipe.train.loop import METRICS, train

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import nn

    from datapipe.train.batches import ResumableLoader
    from datapipe.train.config import TrainConfig
    from datapipe.train.evaluation import EvaluationLoader
    from datapipe.train.result import TrainResult
    from datapipe.train.tuning.options import Plan

_TAIL: Final = 0.2
"""The share of a trial's steps, its last, whose mean loss is its score where nothing is held out: what it has come to,
over enough batches that no single one decides."""
_PROBE: Final = 3
"""Steps after which a new trial's pace is looked at for the first time."""
_NEAR: Final = 0.98
"""Of a rung's seconds: reached."""


@final
@dataclass(frozen=True, kw_only=True)
class Contender:
    """What one set of values trains.

    Attributes:
        config: of the whole run that is searched for: a trial is its beginning, on its schedule.
        loader: of the trial's own; put where its checkpoint says.
        model: as for `train`; None: the GPT of `config.model`.
        evaluation: a loader of rows held out, whose loss decides; None: the mean training loss of the last fifth of the
            steps (each taken before the model learnt from its batch: in the first epoch, rows it has not seen).
    """

    config: TrainConfig
    loader: ResumableLoader
    model: nn.Module | Callable[[], nn.Module] | None = None
    evaluation: EvaluationLoader | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a trial has done, by its log.

    Attributes:
        steps, tokens, seconds: from its beginning; seconds of steps, the wait for batches included.
        pace: seconds a step takes now: the median of the last half.
        loss: of the last fifth of the steps, per target; NaN before the first.
    """

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    pace: float = 0.0
    loss: float = math.nan


@final
@dataclass(frozen=True, kw_only=True)
class Rung:
    """Where a trial stands at a rung's end; `stopped` by that signal before it, else None."""

    loss: float
    progress: Progress
    stopped: str | None = None


def run_rung(contender: Contender, folder: Path, plan: Plan, rung: int) -> Rung:
    """Train until the rung's amount is reached, from where the folder stands, and score.

    Raises:
        TrainError: the training could not go on: its loss is not finite, or there is nothing to learn from.
    """
    amount = plan.amounts[rung]
    while True:
        before = read_progress(folder)
        until = round(amount) if plan.resource == "steps" else _steps_for(amount, before)
        until = min(until, contender.config.steps)
        result = train(contender.config, contender.loader, out=folder, model=contender.model, until=until)
        progress = read_progress(folder)
        if result.stopped not in {None, "until"}:
            return Rung(loss=math.nan, progress=progress, stopped=result.stopped)
        whole = result.stopped is None  # the run that is searched for is shorter than the rung
        if whole or plan.resource == "steps" or progress.seconds >= amount * _NEAR:
            break
    return Rung(loss=progress.loss if contender.evaluation is None else held_out(contender, result), progress=progress)


def held_out(contender: Contender, result: TrainResult) -> float:
    """The trained model's loss on the rows held out."""
    import torch

    from datapipe.train.evaluation import evaluate

    assert contender.evaluation is not None
    precision: Any = result.precision
    return evaluate(result.model, contender.evaluation, device=torch.device(result.device), precision=precision).loss


def _steps_for(amount: float, done: Progress) -> int:
    """How many steps of the whole trial fill `amount` seconds, by its pace so far."""
    if not done.steps:
        return _PROBE
    return done.steps + max(0, math.ceil((amount - done.seconds) / max(done.pace, 1e-6)))


def seconds_of_rung(plan: Plan, rung: int, pace: float) -> float:
    """What going on from the rung before to this one will take; by steps, at `pace` seconds each (0: not known)."""
    amount = plan.amounts[rung] - (plan.amounts[rung - 1] if rung else 0.0)
    return amount if plan.resource == "seconds" else amount * pace


def read_progress(folder: Path) -> Progress:
    """What the log in a trial's folder says; of a folder without one, nothing done."""
    path = folder / METRICS
    if not path.exists():
        return Progress()
    steps: list[tuple[float, int, float]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        told = _step_of(line)
        if told is not None:
            steps.append(told)
    if not steps:
        return Progress()
    losses, tokens, seconds = zip(*steps, strict=True)
    tail = max(1, math.ceil(len(steps) * _TAIL))
    late = sorted(seconds[len(seconds) // 2 :])
    weights = tokens[-tail:]
    return Progress(
        steps=len(steps), tokens=sum(tokens), seconds=sum(seconds), pace=late[len(late) // 2],
        loss=_mean(losses[-tail:], weights),
    )  # fmt: skip


def _mean(values: Sequence[float], weights: Sequence[int]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def _step_of(line: str) -> tuple[float, int, float] | None:
    """(loss, targets, seconds) of a line that tells of a step; a line cut short by a kill tells nothing."""
    try:
        told: Any = json.loads(line)
        return float(told["loss"]), int(told["tokens"]), told["tokens"] / told["tokens_per_s"]
    except (ValueError, KeyError, TypeError, ZeroDivisionError):
        return None


def check_contender(contender: Any) -> Contender:
    """It, or ConfigError where a search was given something else."""
    if not isinstance(contender, Contender):
        raise ConfigError(f"a {type(contender).__name__} to train", expected="a Contender(config=…, loader=…)")
    return contender
