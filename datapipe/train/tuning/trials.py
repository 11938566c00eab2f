"""What a search came to: its trials, the best first.

What enters: Optuna's study. What leaves: rows of plain numbers, ranked. Invariant: a trial that got further up the
rungs stands above one that got less far, whatever their losses: those at a shorter rung are not comparable.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from optuna import Study

    from datapipe.train.tuning.options import Plan


@final
@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """A trial.

    Attributes:
        number: from 0, in the order drawn. values: what it was given.
        end: "complete", "pruned" (others were better at its rung, or it could not go on: `why`), "failed" (`why`), or
            "unfinished": the budget or a signal ended it, and it goes on with the next start.
        rung: how many it reached. curve: (amount of the resource, loss in nats) at each.
        loss: at the last of them, None before the first.
        steps, tokens, step_ms: done, by its log. seconds: spent on it.
        folder: its run's, with its checkpoint where it may go on or completed.
    """

    number: int
    values: Mapping[str, Any]
    end: str
    rung: int
    loss: float | None
    curve: tuple[tuple[float, float], ...]
    steps: int
    tokens: int
    step_ms: float
    seconds: float
    why: str
    folder: str


@final
@dataclass(frozen=True, kw_only=True)
class TuneResult:
    """A search, as far as it got.

    Attributes:
        rows: trials, the best first.
        spent_s: on all trials, over all starts. stopped: the signal that ended this start, or None.
    """

    rows: tuple[TrialRow, ...]
    plan: Plan
    spent_s: float
    budget_s: float
    space: tuple[str, ...]
    stopped: str | None

    @property
    def best(self) -> TrialRow | None:
        """The lowest loss at the highest rung that any trial reached; None where none reached the first."""
        return self.rows[0] if self.rows and self.rows[0].loss is not None else None

    def rows_by_number(self) -> dict[int, TrialRow]:
        """Trials in the order drawn."""
        return {row.number: row for row in sorted(self.rows, key=lambda row: row.number)}

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        best = self.best
        return {
            "best": None if best is None else asdict(best), "trials": [asdict(row) for row in self.rows],
            "plan": self.plan.as_dict(), "spent_s": self.spent_s, "budget_s": self.budget_s, "stopped": self.stopped,
        }  # fmt: skip


def rows_of(study: Study, plan: Plan, folder: Path) -> list[TrialRow]:
    """Every trial, in the order drawn."""
    amount = dict(zip(plan.factors, plan.amounts, strict=True))
    ends = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    rows = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name == "WAITING":
            continue
        told: dict[str, Any] = trial.user_attrs.get("progress", {})
        curve = tuple(
            (amount[step], loss)
            for step, loss in sorted(trial.intermediate_values.items())
            if step in amount and not math.isnan(loss)
        )
        rows.append(
            TrialRow(
                number=trial.number, values=dict(trial.params), end=ends.get(trial.state.name, "unfinished"),
                rung=len(curve), loss=curve[-1][1] if curve else None, curve=curve, steps=told.get("steps", 0),
                tokens=told.get("tokens", 0), step_ms=told.get("step_ms", 0.0),
                seconds=trial.user_attrs.get("spent_s", 0.0), why=trial.user_attrs.get("why", ""),
                folder=str(folder / f"{trial.number:05d}"),
            )
        )  # fmt: skip
    return rows


def rank(rows: Iterable[TrialRow]) -> tuple[TrialRow, ...]:
    """The best first: by rung, then by loss, then by number; those that failed last."""
    return tuple(
        sorted(
            rows,
            key=lambda row: (row.end == "failed", -row.rung, row.loss if row.loss is not None else 0.0, row.number),
        )
    )
