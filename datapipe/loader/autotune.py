"""The tuner: tries one change at a time, measures what it did, keeps or reverts it, and writes all of it down.

What enters: a `Sample` per round. What leaves: how many threads, how much prefetch and read-ahead; every decision with
its predicted and its measured effect. Invariants: what the user gave is not changed; nothing here touches the order;
and it cannot oscillate: what was reverted, and the way back from what was kept, is barred for a time that doubles, so
that in a run of t seconds a knob turns round at most about log2(t / `BARRED_S`) times, whatever is measured.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe import events
from datapipe.loader.arguments import thread_count, whole_number
from datapipe.loader.autotune_model import LEAST_BUDGET, Demand, Knob, Knobs, Limits, Proposal, changed, demand, propose
from datapipe.loader.resources import cpus, free_memory
from datapipe.storage.byte_count import byte_count

if TYPE_CHECKING:
    from datapipe.loader.autotune_meter import Sample

PREFETCH: Final = 4
MEMORY_BUDGET: Final = 512 << 20
_LOG: Final = logging.getLogger("datapipe.loader.autotune")
ROUNDS: Final = 3
"""Rounds that a judgement rests on, before a change and after it; the median of theirs counts."""
BARRED_S: Final = 120.0
"""How long a change is barred once it was reverted, the first time; then twice as long, and so on."""
_WORSE: Final = 0.05
"""A change that cost more than this is reverted."""
_LEAST_PART: Final = 0.25
"""And so is one that was to gain and gave less than this part of what was predicted, or less than `_LEAST_GAIN`."""
_LEAST_GAIN: Final = 0.03
_REMEMBERED: Final = 200


def make_tuner(
    dataset: Any, num_threads: int | str, prefetch: int | None, memory_budget: int | str | None, *, active: bool
) -> Tuner:
    """The tuner of a loader with these arguments: what is left at its default is tuned, where `active`.

    Raises:
        ConfigError: an argument is wrong.
    """
    remote = bool(getattr(getattr(dataset, "store", None), "is_remote", False))
    free = free_memory()
    # Decoding is but one of those who want memory on a machine that trains.
    most = MEMORY_BUDGET if free is None else max(LEAST_BUDGET, min(MEMORY_BUDGET, free // 4))
    knobs = Knobs(
        num_threads=thread_count(num_threads, remote=remote),
        prefetch=PREFETCH if prefetch is None else whole_number("prefetch", prefetch, 0),
        memory_budget=most if memory_budget is None else byte_count("memory_budget", memory_budget),
    )
    left: dict[Knob, bool] = {
        "num_threads": num_threads == "auto",
        "prefetch": prefetch is None,
        "memory_budget": memory_budget is None,
    }
    tunable = frozenset(knob for knob, default in left.items() if default and active and knobs.prefetch)
    return Tuner(knobs, Limits(cpus=cpus(), memory=knobs.memory_budget, tunable=tunable))


@final
@dataclass(kw_only=True)
class Decision:
    """One change.

    Attributes:
        second: since the first round. predicted, measured: change of the time per batch, as a fraction; measured is
            None as long as it is not known. verdict: "measuring", "kept" or "reverted".
        barred_s: for how long it is not tried again (reverted), or not taken back (kept).
    """

    second: float
    knob: str
    before: int
    after: int
    why: str
    predicted: float
    measured: float | None = None
    verdict: str = "measuring"
    barred_s: float = 0.0

    def __str__(self) -> str:
        text = f"{self.knob} {self.before} -> {self.after}: {self.why}; predicted {self.predicted:+.0%}"
        if self.measured is not None:
            text += f", measured {self.measured:+.0%} a batch: {self.verdict}"
            text += ", not tried again" if self.verdict == "reverted" else ", not taken back"
            text += f" for {self.barred_s:.0f} s"
        return text


@final
class Tuner:
    """The numbers of one loader, over all its epochs. Called by whoever consumes its batches.

    Attributes:
        knobs: as they are now. decisions: the last 200, oldest first.
    """

    def __init__(self, knobs: Knobs, limits: Limits) -> None:
        self.knobs = knobs
        self.decisions: deque[Decision] = deque(maxlen=_REMEMBERED)
        self._limits = limits
        self._rounds: list[Sample] = []
        self._settling = True
        self._trial: tuple[Decision, Demand] | None = None
        self._barred: dict[tuple[Knob, int], int] = {}
        self._turns: dict[Knob, int] = {}
        self._last: dict[Knob, int] = {}
        self._first = 0
        self._now = 0
        self._batches = self._loads = 0
        self._load_ns = self._load_cpu = 0.0

    @property
    def threads(self) -> int:
        """Threads wanted now."""
        return self.knobs.num_threads

    @property
    def prefetch(self) -> int:
        """Batches ahead, now."""
        return self.knobs.prefetch

    @property
    def budget(self) -> int:
        """Bytes, now."""
        return self.knobs.memory_budget

    def begin(self) -> None:
        """A new source begins: its first round is a start, not the steady state."""
        self._settling = True
        self._rounds.clear()

    def observe(self, sample: Sample) -> bool:
        """Take a round; whether a number changed."""
        self._now = sample.began + sample.wall
        self._first = self._first or sample.began
        self._batches += sample.batches
        self._loads += sample.loads
        if sample.loads:
            # A mean that forgets: blocks come in bursts, and some rounds load none.
            part = 1.0 if not self._load_ns else 0.5
            self._load_ns += part * (sample.load_ns / sample.loads - self._load_ns)
            self._load_cpu += part * (sample.load_cpu / sample.loads - self._load_cpu)
        if not self._limits.tunable or sample.interrupted:
            return False
        if self._settling:
            self._settling = False
            return False
        self._rounds.append(sample)
        if len(self._rounds) < ROUNDS:
            return False
        needs = demand(self._rounds, self._loads / self._batches, self._load_ns, self._load_cpu)
        self._rounds.clear()
        return self._judge(needs) if self._trial is not None else self._try(needs)

    def stats(self) -> dict[str, Any]:
        """What `loader.stats()["tuning"]` is: `frozen`, arguments that keep these numbers, and the decisions."""
        return {
            "active": bool(self._limits.tunable),
            "frozen": asdict(self.knobs),
            "decisions": [asdict(decision) for decision in list(self.decisions)],
        }

    def _allowed(self, knob: Knob, direction: int) -> bool:
        return self._now >= self._barred.get((knob, direction), 0)

    def _try(self, needs: Demand) -> bool:
        found = propose(needs, self.knobs, self._limits, self._allowed)
        if found is None:
            return False
        decision = self._decide(found)
        self._trial = decision, needs
        self.knobs = changed(self.knobs, found.knob, found.to)
        self._settling = True
        self._say(decision)
        return True

    def _decide(self, found: Proposal) -> Decision:
        decision = Decision(
            second=round((self._now - self._first) / 1e9, 3), knob=found.knob, before=getattr(self.knobs, found.knob),
            after=found.to, why=found.why, predicted=round(found.predicted, 4),
        )  # fmt: skip
        self.decisions.append(decision)
        return decision

    def _judge(self, after: Demand) -> bool:
        """Keep the change on trial, or take it back."""
        assert self._trial is not None
        decision, before = self._trial
        self._trial = None
        effect = after.wall / before.wall - 1
        asked = max(_LEAST_GAIN, -_LEAST_PART * decision.predicted) if decision.predicted < 0 else -_WORSE
        knob: Knob = decision.knob  # type: ignore[assignment]  # made from one
        direction = 1 if decision.after > decision.before else -1
        kept = effect <= -asked
        if not kept or self._last.get(knob, direction) != direction:
            self._turns[knob] = self._turns.get(knob, -1) + 1
        barred = BARRED_S * 2 ** max(0, self._turns.get(knob, 0))
        if kept:
            self._last[knob] = direction
        self._barred[knob, -direction if kept else direction] = self._now + int(barred * 1e9)
        decision.measured, decision.verdict, decision.barred_s = (
            round(effect, 4),
            "kept" if kept else "reverted",
            barred,
        )
        self._say(decision)
        if kept:
            return False
        self.knobs = changed(self.knobs, knob, decision.before)
        self._settling = True
        return True

    def _say(self, decision: Decision) -> None:
        _LOG.info("%s", decision)
        recorder = events.active()
        if recorder is not None:
            recorder.notes["tuning"] = [str(each) for each in self.decisions]
