"""What to change about a run, best first: what a report shows as its fixes.

What enters: a `Prediction` for each change that a known loader can make. What leaves: `Advice`, part of a `Summary`.
Invariant: the fixes are in order of rank; every fix is an option, a line of code or a command, and gains at least
`LEAST` with its whole 80% interval below the recorded step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, final

from datapipe.profiling.loader_facts import Setting  # noqa: TC001  (pydantic resolves the fields when a file is read)

LEAST: Final = 0.02
"""Share of the step that a fix must save to be worth a line: twice the overhead that recording is allowed (1%)."""
EFFORT: Final = ("set an option", "a few lines of code", "another pass over the data")
"""What a fix takes, least first; its gain is divided by 1, 2 and 4 for the ranking. That is a judgement, not a
measurement: a fix that takes more has to gain more."""


@final
@dataclass(frozen=True, kw_only=True)
class Fix:
    """One thing to do, and what the replay says would come of it.

    Attributes:
        title: what it is, in words.
        do: the line of code, of a recipe, or the command.
        cost: what it takes beyond the effort: memory, disk, another order.
        effort: 0, 1 or 2: a place in `EFFORT`.
        gain: share of the step saved.
        recorded_ns: mean steady step as recorded, ns.
        step_ns: the same with the fix.
        low, high: 80% interval of `step_ns`.
        extrapolated: whether the answer rests on something the run never showed.
        reason: what it rests on.
        options: settings of the run's loader that are the fix, for which no script needs an edit; {}: it needs one.
    """

    title: str
    do: str
    cost: str
    effort: int
    gain: float
    recorded_ns: float
    step_ns: float
    low: float
    high: float
    extrapolated: bool
    reason: str
    options: dict[str, Setting] = field(default_factory=dict)

    @property
    def rank(self) -> float:
        """Gain over what it takes."""
        return self.gain / (1 << self.effort)

    def __str__(self) -> str:
        from datapipe.profiling.verdict import ms

        span = f"{ms(self.low)} to {ms(self.high)}"
        doubt = ", extrapolated" if self.extrapolated else ""
        return f"{self.title}: −{self.gain:.0%}, {ms(self.step_ns)} a step ({span}{doubt})  {self.do}"


@final
@dataclass(frozen=True, kw_only=True)
class Applied:
    """A fix that was run: prediction beside measurement. Times in ns per steady step.

    Attributes:
        title: the fix.
        options: what was set.
        recorded_ns: before.
        predicted_ns: what the replay said, low and high its 80% interval.
        measured_ns: after.
        inside: whether the measurement lies in the interval.
        error: predicted ÷ measured - 1.
        p: of the difference of both runs' steps (`compare`), None for too few steps.
    """

    title: str
    options: dict[str, Setting]
    recorded_ns: float
    predicted_ns: float
    low: float
    high: float
    measured_ns: float
    inside: bool
    error: float
    p: float | None

    def __str__(self) -> str:
        from datapipe.profiling.verdict import ms

        where = "inside" if self.inside else "outside"
        chance = "" if self.p is None else f", p = {self.p:.4f}"
        return (
            f"{self.title}: {ms(self.recorded_ns)} → predicted {ms(self.predicted_ns)}"
            f" ({ms(self.low)} to {ms(self.high)}), measured {ms(self.measured_ns)}:"
            f" the prediction is {self.error:+.1%} off, {where} its 80% interval{chance}"
        )


@final
@dataclass(frozen=True, kw_only=True)
class Advice:
    """Fixes of one run.

    Attributes:
        fixes: best first. Their gains do not add up: each is predicted alone.
        sentence: for a person.
        loader: what was advised on, "" where the loader is not known.
        evidence: what the dataset's files say about the cost, a line each.
        applied: the fixes that were run, newest last.
        rank: of a job, whose fixes these are; None for one process. waited_for: whether it makes the others wait.
    """

    fixes: tuple[Fix, ...]
    sentence: str
    loader: str = ""
    evidence: tuple[str, ...] = ()
    applied: tuple[Applied, ...] = ()
    rank: int | None = None
    waited_for: bool = False

    @property
    def whose(self) -> str:
        """For a person: of which rank of a job the fixes are; "" where there was one process."""
        if self.rank is None:
            return ""
        why = ", for which the others wait" if self.waited_for else ""
        return f"Fixes of rank {self.rank}{why}; a gain ends where another rank would be the latest."

    @property
    def applicable(self) -> Fix | None:
        """The best fix that needs no edit of the script."""
        return next((fix for fix in self.fixes if fix.options), None)
