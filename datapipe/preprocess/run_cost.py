"""What a run is expected to cost, as data and as text.

What enters: figures by stage. What leaves: their sums, a table for a person, a JSON object. Invariant: `str()` and
`as_dict()` say the same.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Final, Literal, final

from datapipe.preprocess.amounts import counted, size, spoken

SHOWN: Final = 6
"""Stages that the text names: those that take longest."""


@final
@dataclass(frozen=True, kw_only=True)
class StageCost:
    """One stage.

    Attributes:
        tasks: how many. cpu_seconds: of all. task_seconds: of one, with its waits for the store. seconds: of the stage.
        handing_out: whether scheduler and driver are what it waits for.
        gets, puts: requests to the output's store. read, written: bytes, those of the input included.
        memory: bytes that a task makes a worker grow by. task_bytes: sent to workers; record_bytes: kept by the driver.
    """

    name: str
    tasks: int
    cpu_seconds: float
    task_seconds: float
    seconds: float
    handing_out: bool
    gets: int
    puts: int
    read: int
    written: int
    memory: int
    task_bytes: int
    record_bytes: int


@final
@dataclass(frozen=True, kw_only=True)
class RunCost:
    """A run. `str()` is what `--dry-run` prints.

    Attributes:
        workers: processes of one core. documents, input_bytes, splits: of the input.
        known: how the documents are: "counted", where the sample was all of the input; "estimated", from the sample;
            "given", by who asked, and then the bytes are estimated.
        worker_memory, worker_scratch: bytes that a worker should have. scheduler_memory, driver_memory: those two.
        sample_bytes, sample_seconds: what was run to know this. assumed: what was not measured.
    """

    workers: int
    documents: int
    input_bytes: int
    splits: int
    stages: tuple[StageCost, ...]
    worker_memory: int
    worker_scratch: int
    scheduler_memory: int
    driver_memory: int
    sample_bytes: int
    sample_seconds: float
    assumed: tuple[str, ...] = field(repr=False)
    known: Literal["counted", "estimated", "given"] = "estimated"

    @property
    def tasks(self) -> int:
        """Of all stages."""
        return sum(stage.tasks for stage in self.stages)

    @property
    def seconds(self) -> float:
        """From the first task to the last."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def cpu_seconds(self) -> float:
        """Of all workers."""
        return sum(stage.cpu_seconds for stage in self.stages)

    @property
    def tasks_a_second(self) -> float:
        """That the scheduler hands out in its busiest stage."""
        return max(stage.tasks / max(stage.seconds, 1e-9) for stage in self.stages)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            **dataclasses.asdict(self),
            "tasks": self.tasks,
            "seconds": self.seconds,
            "hours": self.seconds / 3600,
            "cpu_seconds": self.cpu_seconds,
            "tasks_a_second": self.tasks_a_second,
            "read": sum(stage.read for stage in self.stages),
            "written": sum(stage.written for stage in self.stages),
            "gets": sum(stage.gets for stage in self.stages),
            "puts": sum(stage.puts for stage in self.stages),
        }

    def __str__(self) -> str:
        longest = sorted(self.stages, key=lambda stage: -stage.seconds)[:SHOWN]
        told = ", ".join(f"{stage.name} {spoken(stage.seconds)}" for stage in longest)
        rest = f", {len(self.stages) - SHOWN} more" if len(self.stages) > SHOWN else ""
        read, written = (sum(getattr(stage, name) for stage in self.stages) for name in ("read", "written"))
        gets, puts = (sum(getattr(stage, name) for stage in self.stages) for name in ("gets", "puts"))
        cores = f"{counted(self.workers, 'worker')} of one core"
        documents = f"{'about ' if self.known == 'estimated' else ''}{counted(self.documents, 'document')}"
        stored = f"{'about ' if self.known == 'given' else ''}{size(self.input_bytes)}"
        sample = f"{size(self.sample_bytes)}, run in {self.sample_seconds:.0f} s"
        handed = f"{self.tasks_a_second:,.0f} tasks/s at most, {size(self.scheduler_memory)} of memory"
        lines = [
            f"cost of {documents}, {stored}, on {cores} (from a sample of {sample})",
            f"    time       {spoken(self.seconds)} ({told}{rest})",
            f"    work       {spoken(self.cpu_seconds)} of one core, in {counted(self.tasks, 'task')}",
            f"    bytes      {size(read)} read, {size(written)} written, by {gets:,} GET and {puts:,} PUT requests",
            f"    worker     1 core, {size(self.worker_memory)} of memory, {size(self.worker_scratch)} of scratch",
            f"    scheduler  {handed}; the driver {size(self.driver_memory)}",
        ]
        if few := [stage for stage in longest if stage.tasks < self.workers and stage.seconds >= 0.05 * self.seconds]:
            named = ", ".join(f"{stage.name} ({stage.tasks:,})" for stage in few)
            lines.append(f"    few tasks  more workers shorten these no further: {named}")
        if slow := [stage.name for stage in longest if stage.handing_out]:
            lines.append(f"    handed out slower than done: {', '.join(slow)}")
        return "\n".join([*lines, *(f"    assumed    {each}" for each in self.assumed)])
