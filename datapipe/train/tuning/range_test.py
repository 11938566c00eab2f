"""The learning-rate range test: one short run whose rate grows from step to step until the loss runs away.

What enters: a run's config and loader. What leaves: rate and loss of each step, and a rate to begin with. Invariant:
it is the run itself, but for its rate: the same model, seed, batches, optimizer, clipping and precision; the loader is
left where it stood, and nothing is kept on disk.

Smith 2015 (arXiv:1506.01186, section 3.3), with the rate growing exponentially and the rules of Gugger, "How do you
find a good learning rate" (sgugger.github.io, 2018), as in fastai's `lr_find`: losses smoothed with beta 0.98, the end
at four times the lowest. The suggestion is the rate at which the smoothed loss falls fastest: fastai's `steep`, and
what Lightning's `Tuner.lr_find` suggests. Gugger's own, a tenth of the rate of the lowest loss, is told beside it: with
AdamW the smoothed loss goes on falling long after the raw one has ceased to, and the tenth came out several times too
high (benchmarks/LOG.md).
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError, TrainError
from datapipe.train.loop import train

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from datapipe.train.batches import ResumableLoader
    from datapipe.train.config import TrainConfig
    from datapipe.train.result import StepRecord

BETA: Final = 0.98
AWAY: Final = 4.0
"""Times the lowest smoothed loss: it has run away."""
BELOW: Final = 10.0
"""What the rate of the lowest loss is divided by (Gugger)."""


@final
@dataclass(frozen=True, kw_only=True)
class RangeTest:
    """A range test.

    Attributes:
        rates, losses, smoothed: of each step, from the lowest rate; losses in nats.
        suggestion: the rate at which the smoothed loss fell fastest against the logarithm of the rate; None where it
            never fell: `why`.
        tenth: of the rate of the lowest smoothed loss; None where the loss was still falling at the highest rate.
        ran_away: whether it ended before the highest rate.
        stopped: the signal that ended it, or None.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    tenth: float | None
    why: str
    ran_away: bool
    stopped: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


@final
class _RanAway(Exception):  # noqa: N818  (it is the test's own end, and no error)
    """The loss has run away: the test is over."""


def lr_range_test(
    config: TrainConfig,
    loader: ResumableLoader,
    *,
    model: nn.Module | Callable[[], nn.Module] | None = None,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    on_step: Callable[[StepRecord], None] | None = None,
) -> RangeTest:
    """Train `steps` steps, or fewer, with rates from `low` to `high`.

    Args:
        config: of the run; its `lr`, `warmup`, `schedule` and `steps` do not enter.
        model: as for `train`; one that is given is left trained at these rates.
        low, high: both 1e-7 and 10 in fastai, as are 100 steps.

    Raises:
        ConfigError: the range or the number of steps is none. What `train` raises passes through, but for a loss that
            is not finite, which ends the test.
    """
    if not 0 < low < high < math.inf:
        raise ConfigError(f"rates from {low!r} to {high!r}", expected="two numbers above 0, the lower first")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 10:
        raise ConfigError(f"steps={steps!r}", expected="a whole number from 10")
    told = replace(
        config, lr=low, warmup=0, steps=steps, schedule="ExponentialLR",
        schedule_options={"gamma": (high / low) ** (1 / (steps - 1))}, checkpoint_every=0, patience=None,
        on_spike="record", skip={},
    )  # fmt: skip
    rates: list[float] = []
    losses: list[float] = []
    smooth = Smoothed()

    def seen(record: StepRecord) -> None:
        rates.append(record.lr)
        losses.append(record.loss)
        if on_step is not None:
            on_step(record)
        if smooth.add(record.loss) > AWAY * smooth.lowest:
            raise _RanAway

    before = loader.state_dict()
    loader.load_state_dict(before)  # an epoch that was broken off is otherwise followed by the next one
    ran_away, stopped = True, None
    try:
        with tempfile.TemporaryDirectory(prefix="datapipe-lr-") as folder:
            result = train(told, loader, out=folder, model=model, resume="fresh", on_step=seen)
        ran_away, stopped = False, result.stopped
    except _RanAway:
        pass
    except TrainError:
        if not rates:
            raise
    finally:
        loader.load_state_dict(before)
    suggestion, tenth, why = suggested(rates, smooth.values)
    return RangeTest(
        rates=tuple(rates), losses=tuple(losses), smoothed=tuple(smooth.values), suggestion=suggestion,
        tenth=tenth, why=why, ran_away=ran_away, stopped=stopped,
    )  # fmt: skip


@final
class Smoothed:
    """Exponential means of losses, without the pull of their beginning at 0."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._mean = 0.0

    def add(self, loss: float) -> float:
        """The mean with one more loss."""
        self._mean = BETA * self._mean + (1 - BETA) * loss
        self.values.append(self._mean / (1 - BETA ** (len(self.values) + 1)))
        return self.values[-1]

    @property
    def lowest(self) -> float:
        """Of all means so far."""
        return min(self.values)


def suggested(rates: Sequence[float], smoothed: Sequence[float]) -> tuple[float | None, float | None, str]:
    """(suggestion, tenth, why there is no suggestion).

    Args:
        rates: rising. smoothed: the losses at them.
    """
    if len(rates) < 10:
        return None, None, f"only {len(rates)} steps before the loss ran away: begin at a lower rate"
    at = min(range(len(smoothed)), key=smoothed.__getitem__)
    if at < 2:
        return None, None, "the loss never fell: more steps, or a lower rate to begin with"
    falls = [
        (smoothed[n + 1] - smoothed[n - 1]) / (math.log(rates[n + 1]) - math.log(rates[n - 1])) for n in range(1, at)
    ]
    steepest = rates[1 + min(range(len(falls)), key=falls.__getitem__)]
    return steepest, None if at == len(smoothed) - 1 else rates[at] / BELOW, ""
