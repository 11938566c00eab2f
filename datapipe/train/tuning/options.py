"""What a search is told, and the plan that follows from it.

What enters: keyword arguments. What leaves: frozen `TuneOptions`, and a `Plan` with the rungs in numbers, which can be
printed before anything runs. Invariant: the plan's rungs never change while a search goes on, however often it is
stopped: its budget and its number of trials may be raised, nothing else.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Final, Literal, final

from datapipe.errors import ConfigError
from datapipe.train.tuning.space import Space, plain_space, read_space

RESOURCES: Final = ("seconds", "steps")
PRUNERS: Final = ("halving", "hyperband", "none")


@final
@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """A search.

    Attributes:
        space: what is varied.
        budget_s: seconds of all trials together, over all the times the search is taken up again; a rung that would not
            fit is not begun.
        trials: how many to end at most, pruned and failed ones among them; also what the rungs are planned for.
        resource: what the rungs are counted in. "seconds" of training weighs what makes a step slow (threads,
            precision) against what makes it learn; "steps" gives the same search on a busy machine as on an idle one.
        first_rung: of the resource, what every trial gets; None: so that `trials` of them fill the budget (seconds), or
            so that the last rung is the whole run (steps).
        rungs: each `eta` times the one before it, in the resource; after each the best 1/eta go on
            (successive halving, arXiv:1502.07943; asynchronous, arXiv:1810.05934).
        pruner: "halving"; "hyperband" (several halvings, each beginning a rung higher, arXiv:1603.06560); "none".
        seed: of the draws.

    Raises:
        ConfigError: a value is out of its range.
    """

    space: Space
    budget_s: float = 600.0
    trials: int = 20
    resource: Literal["seconds", "steps"] = "seconds"
    first_rung: float | None = None
    rungs: int = 3
    eta: int = 3
    pruner: Literal["halving", "hyperband", "none"] = "halving"
    seed: int = 0

    def __post_init__(self) -> None:
        read_space(self.space)
        for name, low, high in (("trials", 1, 100_000), ("rungs", 1, 10), ("eta", 2, 10), ("seed", 0, 2**31 - 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"tune.{name}={value!r}", expected=f"a whole number, {low} to {high}")
        for name in ("budget_s", "first_rung"):
            value = getattr(self, name)
            if value is None and name == "first_rung":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ConfigError(f"tune.{name}={value!r}", expected="a number above 0")
        for name, known in (("resource", RESOURCES), ("pruner", PRUNERS)):
            if getattr(self, name) not in known:
                raise ConfigError(f"tune.{name}={getattr(self, name)!r}", expected=", ".join(known))

    def plan(self, steps: int) -> Plan:
        """The rungs in numbers.

        Args:
            steps: of the whole run that is searched for.

        Raises:
            ConfigError: the last rung is longer than the run (steps).
        """
        factor = [self.eta**rung for rung in range(self.rungs)]
        if self.resource == "steps":
            first = self.first_rung or max(1, steps // factor[-1])
            amounts = [round(first * by) for by in factor]
            if amounts[-1] > steps or amounts[0] < 1:
                raise ConfigError(
                    f"rungs of {', '.join(map(str, amounts))} steps in a run of {steps}",
                    expected="a last rung within the run",
                    fix=f"first_rung: {max(1, steps // factor[-1])}, or fewer rungs",
                )
            return Plan(resource="steps", amounts=tuple(map(float, amounts)), factors=tuple(factor))
        first = self.first_rung or self.budget_s / (self.trials * self._cost())
        return Plan(resource="seconds", amounts=tuple(round(first * by, 3) for by in factor), factors=tuple(factor))

    def _cost(self) -> float:
        """What a trial takes on average, in first rungs: 1, and of each further rung its own part for 1/eta**rung."""
        if self.pruner == "none":
            return float(self.eta ** (self.rungs - 1))
        return 1 + (self.rungs - 1) * (1 - 1 / self.eta)

    def identity(self) -> str:
        """What two starts of one search have to agree on, besides its rungs, as JSON."""
        told = {
            "space": plain_space(self.space), "rungs": self.rungs, "resource": self.resource, "eta": self.eta,
            "pruner": self.pruner, "seed": self.seed,
        }  # fmt: skip
        return json.dumps(told, sort_keys=True)


@final
@dataclass(frozen=True, kw_only=True)
class Plan:
    """The rungs.

    Attributes:
        amounts: of the resource, from the trial's beginning, rung by rung. factors: the same in first rungs.
    """

    resource: str
    amounts: tuple[float, ...]
    factors: tuple[int, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"resource": self.resource, "rungs": list(self.amounts)}
