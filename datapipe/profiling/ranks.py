"""One process of many: which rank this is, and what the ranks of a job came to side by side.

What enters: the environment that torchrun sets. What leaves: `Rank`, and the rows that a merged profile holds.
Invariant: everything here is plain numbers and words, as the rest of a profile is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Mapping


@final
@dataclass(frozen=True, kw_only=True)
class Rank:
    """Which process of a job a profile was recorded in.

    Attributes:
        rank: 0 to `world_size` - 1.
        local_rank: its place on its machine.
        local_world_size: processes of the job on its machine.
        world_size: processes in the job.
        job: tells one start of the job from another, "" where the launcher does not say.
    """

    rank: int
    local_rank: int
    local_world_size: int
    world_size: int
    job: str = ""

    @property
    def folder(self) -> str:
        """The name of this rank's folder inside the job's."""
        return f"rank-{self.rank}"


@final
@dataclass(frozen=True, kw_only=True)
class RankRow:
    """One rank over the steps that all ranks recorded. Times in ns, means per steady step unless said.

    Attributes:
        rank: its number.
        step: mean step.
        p50, p95: of its steps.
        parts: part → mean; they sum to `step`.
        waits: stage → mean; they sum to the part "wait".
        stages: stage → mean service time of one of its spans.
        own: mean of what it does before it meets the others: the step without backward and communication.
        late: mean of `own` minus the median of the other ranks' in the same step, signed.
        last: share of steps, 0 to 1, in which no rank's `own` was longer.
        waiting: mean time spent waiting for a later rank.
        slow_part: what makes it late, in words; None where it is not late.
    """

    rank: int
    step: float
    p50: float
    p95: float
    parts: dict[str, float]
    waits: dict[str, float]
    stages: dict[str, float]
    own: float
    late: float
    last: float
    waiting: float
    slow_part: str | None = None


@final
@dataclass(frozen=True, kw_only=True)
class RankWait:
    """One rank waiting for another: the mean over all common steps, in ns, 0 in those where another was last."""

    rank: int
    waits_for: int
    mean: float


@final
@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The ranks of a job, side by side.

    Attributes:
        world_size: processes the job had.
        steps: steady steps that all ranks of `rows` recorded.
        rows: one per rank, by number.
        missing: ranks whose profile is not there.
        synchronous: the ranks' mean steps agree, so whoever is early waits.
        meetings: parts of the step in which they wait for each other.
        skew: mean and 95th percentile (ns) of the step's last `own` minus its first.
        stragglers: ranks that make the others late, the latest first.
        waits: who waits for whom, the longest first; empty where the ranks are not synchronous.
        sentence: for a person.
        evidence: further facts, a line each.
    """

    world_size: int
    steps: int
    rows: tuple[RankRow, ...]
    missing: tuple[int, ...] = ()
    synchronous: bool
    meetings: tuple[str, ...] = ()
    skew: tuple[float, float]
    stragglers: tuple[int, ...]
    waits: tuple[RankWait, ...]
    sentence: str
    evidence: tuple[str, ...] = ()

    def table(self) -> tuple[tuple[str, ...], tuple[tuple[float, ...], ...]]:
        """Ranks × stages, for a heat map: column names, and a row per rank in the order of `rows` (ns a step).

        The part "wait" is split by stage ("wait: fetch"); a row sums to its rank's mean step.
        """
        parts = list(dict.fromkeys(name for row in self.rows for name in row.parts))
        stages = list(dict.fromkeys(name for row in self.rows for name in row.waits))
        split = any(row.waits for row in self.rows)
        names, columns = [], []
        for part in parts:
            if part == "wait" and split:
                names += [f"wait: {stage}" for stage in stages]
                columns += [[row.waits.get(stage, 0.0) for row in self.rows] for stage in stages]
            else:
                names.append(part)
                columns.append([row.parts.get(part, 0.0) for row in self.rows])
        return tuple(names), tuple(zip(*columns, strict=True))


def this_rank(environ: Mapping[str, str] | None = None) -> Rank | None:
    """This process's rank, from RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE as torchrun sets them.

    None for a process that is alone (a world of one) and where the variables make no sense: a profile is not the
    place to refuse a job for them.
    """
    environ = os.environ if environ is None else environ
    try:
        rank, world_size = int(environ["RANK"]), int(environ["WORLD_SIZE"])
        local, beside = int(environ.get("LOCAL_RANK", rank)), int(environ.get("LOCAL_WORLD_SIZE", world_size))
    except (KeyError, ValueError):
        return None
    if world_size < 2 or not 0 <= rank < world_size:
        return None
    job = "/".join(filter(None, (environ.get("TORCHELASTIC_RUN_ID"), environ.get("TORCHELASTIC_RESTART_COUNT"))))
    return Rank(rank=rank, local_rank=local, local_world_size=beside, world_size=world_size, job=job)
