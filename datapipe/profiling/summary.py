"""What a profiled run came to: plain numbers and words, the same in memory and in `profile.json`.

Invariant: everything here is JSON: integers in ns or bytes, shares between 0 and 1, strings; nothing refers to a
recorder, so every renderer works from a file as well as from a run.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final, final

from datapipe.profiling.advice import Advice  # noqa: TC001  (as below)
from datapipe.profiling.cpu_use import CpuUse  # noqa: TC001  (as below)
from datapipe.profiling.differential import Differential  # noqa: TC001  (as below)
from datapipe.profiling.io_truth import IoTruth  # noqa: TC001  (as below)
from datapipe.profiling.lock_probe import LockDelay  # noqa: TC001  (as below)
from datapipe.profiling.lock_waits import LockWait  # noqa: TC001  (as below)
from datapipe.profiling.memory_use import MemoryUse  # noqa: TC001  (as below)
from datapipe.profiling.overhead import Overhead  # noqa: TC001  (as below)
from datapipe.profiling.phases import Phase  # noqa: TC001  (as below)
from datapipe.profiling.queues import QueueStrip  # noqa: TC001  (pydantic resolves the fields when a file is read)
from datapipe.profiling.ranks import Rank, Ranks  # noqa: TC001  (as above)
from datapipe.profiling.stages import StageRow  # noqa: TC001  (as above)

FORMAT: Final = "datapipe-profile"
VERSION: Final = 1
LATE_RANK: Final = "late rank"
KINDS: Final = (
    "input-bound", "moderately input-bound", "not input-bound", "too few steps", "no steps", LATE_RANK,
)  # fmt: skip
"""Kinds of verdict; the last is a job's, one rank of which makes the others wait."""
STEP_CAP: Final = 10_000
"""Steps kept one by one in a profile; a longer run keeps one of every k, and says so."""


@final
@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One sentence, and what it rests on.

    Attributes:
        kind: one of `KINDS`.
        sentence: for a person.
        input_share: (wait not hidden by the device + host-to-device copy + waits for the interpreter's lock that the
            loader held) ÷ step, over steady steps.
        bottleneck: the stage or part with the largest share of the critical path, or None.
        also: those within 10% of it.
        evidence: further facts, a line each.
    """

    kind: str
    sentence: str
    input_share: float
    bottleneck: str | None
    also: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()


@final
@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the steady step (or of the wait, or of the run). Times in ns.

    Attributes:
        name: the part.
        mean: mean per steady step; for a part of the run, the whole.
        p50, p95: over steady steps; equal to `mean` for a part of the run.
        share: of the mean step, of the mean step for a part of the wait too, of the wall for a part of the run.
        total: over all steps.
    """

    name: str
    mean: float
    p50: float
    p95: float
    share: float
    total: int


@final
@dataclass(frozen=True, kw_only=True)
class StepSeries:
    """Steps one by one, at most `STEP_CAP` of them.

    Attributes:
        count: steps of the run.
        every: 1 if all are here, k if one of every k is (not always the same of them).
        number: step numbers.
        start_ns: when each began, from the run's start.
        total_ns: wall time.
        kind: 0 steady, 1 the run's first, 2 the first of a later epoch, 3 one that wrote a checkpoint.
        parts_ns: part → ns per step; the parts of a step sum to its `total_ns`.
        waits_ns: stage → ns per step; these sum to the step's wait.
    """

    count: int
    every: int
    number: list[int]
    start_ns: list[int]
    total_ns: list[int]
    kind: list[int]
    parts_ns: dict[str, list[int]]
    waits_ns: dict[str, list[int]]


@final
@dataclass(frozen=True, kw_only=True)
class RecorderCost:
    """What was recorded, and what recording cost.

    Attributes:
        spans: held and analysed.
        lost: overwritten before they could be read.
        ns_per_span: measured in this process after the run, median.
        share: ns_per_span x spans ÷ (wall x threads that recorded), the mean slowdown of a recording thread.
        threads: names of the threads that recorded.
    """

    spans: int
    lost: int
    ns_per_span: float
    share: float
    threads: tuple[str, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Summary:
    """A profiled run.

    Attributes:
        complete: False where the run ended in an exception or is still going on.
        error: the exception's class, where there was one.
        title: what was profiled, in the user's words.
        started_unix_ns: when.
        wall_ns: how long, on a clock apart from the spans'.
        remainder_ns: wall_ns minus the sum of `run`, signed.
        steps_per_second: over steady steps.
        samples: rows delivered, or None where batches do not say.
        step: mean, p50, p95 of the steady step.
        parts: parts of the steady step; they sum to the mean step.
        waits: the wait by stage; they sum to the part "wait".
        device: parts of the steady step as the device ran them, by its own clock; they may overlap the host's parts.
            The last, "busy", is any of them. Empty where nothing clocked a device.
        hidden_ns: mean wait per steady step during which the device was busy.
        run: parts of the run in order of time; with `remainder_ns` they sum to the wall.
        epochs: passes over the data that were seen.
        stages: one row per stage.
        path_ns: critical path per stage.
        memory: (seconds since the start, resident bytes).
        queues: what lay ready between the stages, in the order of the pipeline.
        unmeasured: what this profile cannot see, a line each.
        environment: versions and hardware.
        notes: facts about the run from whoever took part in it.
        io: bytes by source. memory_use: memory over time. lock: the interpreter lock's delay. cpu: cores in use.
            overhead: what the profile cost. Each None where it was not measured.
        lock_waits: what the loop's parts waited for the interpreter's lock, which the loader held; no part of `waits`.
        rank: which process of a job this was, None for one that was alone.
        ranks: the job's ranks side by side, in a merged profile.
        advice: what to change, best first; None where there was too little to replay.
        phases: evaluations and checkpoints, in order of time.
        differential: the same script run with and without its loader; None where that was not asked for.
    """

    format: str = FORMAT
    version: int = VERSION
    complete: bool
    error: str | None
    title: str
    started_unix_ns: int
    wall_ns: int
    remainder_ns: int
    steps_per_second: float
    samples: int | None
    step: Part | None
    parts: tuple[Part, ...]
    waits: tuple[Part, ...]
    hidden_ns: float
    device: tuple[Part, ...]
    run: tuple[Part, ...]
    epochs: int
    steady_steps: int
    series: StepSeries
    stages: tuple[StageRow, ...]
    path_ns: dict[str, int]
    verdict: Verdict
    memory: list[tuple[float, int]]
    recorder: RecorderCost
    queues: tuple[QueueStrip, ...] = ()
    unmeasured: tuple[str, ...] = ()
    environment: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    notes: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    io: IoTruth | None = None
    memory_use: MemoryUse | None = None
    lock: LockDelay | None = None
    cpu: CpuUse | None = None
    overhead: Overhead | None = None
    lock_waits: tuple[LockWait, ...] = ()
    rank: Rank | None = None
    ranks: Ranks | None = None
    advice: Advice | None = None
    differential: Differential | None = None
    phases: tuple[Phase, ...] = ()

    @property
    def cause(self) -> str:
        """What ended a run that is not complete: the exception's class, of `SystemExit` with its code; "" unknown."""
        code = self.notes.get("exit code")
        return f"{self.error}, code {code}" if self.error and code is not None else self.error or ""

    def part(self, name: str) -> Part | None:
        """The part of the steady step by that name."""
        return next((part for part in self.parts if part.name == name), None)

    def as_dict(self) -> dict[str, Any]:
        """The summary as the JSON object that `profile.json` holds."""
        return asdict(self)
