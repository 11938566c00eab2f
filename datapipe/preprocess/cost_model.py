"""What a run will cost on a cluster of any size: from what its stages used on a sample (`sampled_run`).

What enters: a plan, samples, how many workers and documents. What leaves: tasks, hours, bytes, requests, memory of a
worker, of the scheduler and of the driver; and what was assumed. Invariant: a function of these numbers; nothing is
read. With more documents no total falls, with more workers the hours do not rise.

Each figure of a stage is fitted to its three small runs by non-negative least squares: a part for each task, one for
each byte of the input, and, where a task reads something of every split (a bucket, a part of a shuffle), one for each
pair of task and split. The latter is what grows by the square. A stage's time is that of its waves of tasks, or what
scheduler and driver need for handing them out, if that is longer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, final

from datapipe.preprocess.amounts import size as in_words
from datapipe.preprocess.layout import Layout
from datapipe.preprocess.limits import BATCH_BYTES
from datapipe.preprocess.plan import bucket_count, part_count, split_size
from datapipe.preprocess.run_cost import RunCost, StageCost
from datapipe.preprocess.stage import MAP, SHARD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datapipe.preprocess.plan import Plan
    from datapipe.preprocess.sampled_run import Samples, StageSample
    from datapipe.preprocess.stage import Stage

SCHEDULER_SECONDS: Final = 1.4e-3
"""Of the scheduler's one core, for a task: with 40 workers on a busy machine (`benchmarks/cost_model.py --scheduler`).
Dask names 0.2 to 1 ms (docs.dask.org, "Dask Best Practices")."""
DRIVER_SECONDS: Final = 0.4e-3
"""Of the driver's one core, for a task: making, sending, and taking the record in; measured there."""
SCHEDULER_FIXED: Final = 150e6
SCHEDULER_A_WORKER: Final = 1e6
SCHEDULER_A_TASK: Final = 20e3
"""Bytes: of its process (132 MB measured there), for a worker (connections, state) and for a task in flight beside what
it carries: more than was measured (0.05 MB; 10 kB by Dask's own account), as no cluster of that size was at hand."""
IN_FLIGHT: Final = 2
"""Tasks of a worker that the scheduler knows of (`engine.IN_FLIGHT`): its graph does not grow with the run."""
WORKER_FIXED: Final = 60e6
"""Bytes of a worker's process that a run in one process does not have: Dask's own."""
LATENCY: Final = 0.02
"""Seconds until an object store answers a request: S3 states 100 to 200 ms for small objects and most are near 20."""
BANDWIDTH: Final = 100e6
"""Bytes a second between a worker and the store, and out of the driver."""
DROP_GETS: Final = 4
"""Requests for one split's part of a drop list."""
GROWS: Final = 1.5
"""A task that asks so many times as much where there are four splits reads something of each."""


@final
@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What a run is to be forecast for.

    Attributes:
        workers: processes of one core each.
        latency: seconds for a request to the output's store; 0 for a disk. bandwidth: bytes a second of one worker.
    """

    workers: int
    latency: float = LATENCY
    bandwidth: float = BANDWIDTH


@final
@dataclass(frozen=True, kw_only=True)
class _Size:
    """A run's size: tasks of a stage, splits, bytes of input."""

    tasks: int
    splits: int
    bytes: float


@final
@dataclass(frozen=True)
class _Law:
    """A figure as a function of the size: a task's, a byte's, and a pair's part of it."""

    task: float = 0.0
    byte: float = 0.0
    pair: float = 0.0

    def at(self, size: _Size) -> float:
        return self.task * size.tasks + self.byte * size.bytes + self.pair * size.tasks * size.splits


@final
@dataclass(frozen=True, kw_only=True)
class _Laws:
    """Of one stage, by name of the figure; `memory`: (fixed, for each byte that a task reads and writes)."""

    figures: dict[str, _Law] = field(repr=False)
    memory: tuple[float, float]


_FIGURES: Final = ("seconds", "gets", "puts", "read", "written", "task_bytes", "record_bytes")


def run_cost(plan: Plan, samples: Samples, cluster: Cluster, documents: int | None = None) -> RunCost:
    """What the run will cost.

    Args:
        plan: over the real input. samples: of it, by `run_samples`.
        documents: as if the input had so many, of the same kind; None: as many as it has.
    """
    size = plan.bytes if documents is None else round(documents / max(samples.documents, 1e-12))
    splits = len(plan.splits)
    if documents is not None:
        splits = max(1, math.ceil(size / (plan.recipe.output.split_bytes or split_size(size))))
    stages = Layout(splits, bucket_count(size), (), part_count(splits, size)).lay_out(plan.recipe)
    costs = [
        _stage_cost(stage, stages, sample, _Size(tasks=stage.tasks, splits=splits, bytes=size), samples, plan, cluster)
        for stage, sample in zip(stages, samples.stages, strict=True)
    ]
    counted = samples.whole if documents is None else None
    how: Literal["counted", "estimated", "given"] = "estimated" if documents is None else "given"
    if counted is not None:
        documents, how = counted, "counted"
    heaviest = max(cost.memory for cost in costs)
    known = [min(IN_FLIGHT * cluster.workers, cost.tasks) for cost in costs]
    held = [n * (SCHEDULER_A_TASK + cost.task_bytes / max(1, cost.tasks)) for n, cost in zip(known, costs, strict=True)]
    return RunCost(
        workers=cluster.workers,
        documents=round(size * samples.documents) if documents is None else documents,
        input_bytes=round(size),
        splits=splits,
        stages=tuple(costs),
        worker_memory=round(samples.baseline + WORKER_FIXED + heaviest),
        worker_scratch=round(2 * max(cost.written / max(1, cost.tasks) for cost in costs)),
        scheduler_memory=round(SCHEDULER_FIXED + cluster.workers * SCHEDULER_A_WORKER + max(held)),
        driver_memory=round(
            samples.baseline
            + max(2 * cost.task_bytes for cost in costs)  # objects take about twice their pickled size
            + 2 * sum(cost.record_bytes for cost in costs)
        ),
        sample_bytes=samples.input_bytes,
        sample_seconds=samples.seconds,
        assumed=_assumed(samples, cluster, like=how != "counted"),
        known=how,
    )


def _stage_cost(
    stage: Stage,
    stages: Sequence[Stage],
    sample: Sequence[StageSample],
    size: _Size,
    samples: Samples,
    plan: Plan,
    cluster: Cluster,
) -> StageCost:
    laws = _laws(stage, sample)
    size = _bounded(stage, size, samples, plan)
    found = {name: law.at(size) for name, law in laws.figures.items()}
    # A task asks each drop list for its own split's part, and there are more lists than in the sample.
    asked = size.tasks * max(0, sum(stages[number].tasks for number in stage.drops) - len(stage.drops)) * DROP_GETS
    found["gets"] += asked
    reads = size.bytes if stage.kind == MAP and stage.source is None else 0.0
    moved = found["read"] + found["written"] + reads
    tasks = max(1, size.tasks)
    requests = found["gets"] + found["puts"]
    waits = requests * cluster.latency + (moved / cluster.bandwidth if cluster.latency else 0.0)
    task_seconds = (found["seconds"] + waits) / tasks
    handing = size.tasks * max(SCHEDULER_SECONDS, DRIVER_SECONDS) + found["task_bytes"] / BANDWIDTH
    work = math.ceil(size.tasks / cluster.workers) * task_seconds
    # Rows go through a stage by the batch; what packs or writes them holds more.
    at_once = min(moved / tasks, BATCH_BYTES) if stage.kind == MAP and SHARD not in stage.writes else moved / tasks
    return StageCost(
        name=stage.name,
        tasks=size.tasks,
        cpu_seconds=found["seconds"],
        task_seconds=task_seconds,
        seconds=max(work, handing),
        handing_out=handing > work,
        gets=round(found["gets"]),
        puts=round(found["puts"]),
        read=round(found["read"] + reads),
        written=round(found["written"]),
        memory=round(laws.memory[0] + laws.memory[1] * at_once),
        task_bytes=round(found["task_bytes"]),
        record_bytes=round(found["record_bytes"]),
    )


def _bounded(stage: Stage, size: _Size, samples: Samples, plan: Plan) -> _Size:
    """A vocabulary is trained on a sample of its own, however large the corpus."""
    if stage.kind != "vocabulary":
        return size
    step = next(step for step in plan.recipe.steps if step.name == stage.owner)
    most = getattr(step.options, "sample_bytes", 0)
    if not most or size.bytes * samples.text_bytes <= most:
        return size
    return _Size(tasks=size.tasks, splits=size.splits, bytes=most / samples.text_bytes)


def _laws(stage: Stage, sample: Sequence[StageSample]) -> _Laws:
    one, large, several = sample
    pairs = stage.kind != MAP and several.splits > large.splits and _grows(large, several)
    figures = {name: _fit(sample, [float(getattr(run, name)) for run in sample], pairs=pairs) for name in _FIGURES}
    held = [_held(stage, run) for run in sample]
    memory = _least([[1.0, each] for each in held], [float(run.memory) for run in sample])
    # A machine's noise must not make it less than what was seen.
    return _Laws(figures=figures, memory=(max(memory[0], 0.0), memory[1] or max(one.memory, 0) / max(held[0], 1.0)))


def _held(stage: Stage, run: StageSample) -> float:
    """Bytes that a task of the run reads and writes."""
    reads = run.input_bytes if stage.kind == MAP and stage.source is None else 0
    return (run.read + run.written + reads) / max(1, run.tasks)


def _grows(large: StageSample, several: StageSample) -> bool:
    """Whether a task reads something of every split."""
    return several.gets / max(1, several.tasks) >= GROWS * max(1.0, large.gets / max(1, large.tasks))


def _fit(sample: Sequence[StageSample], values: list[float], *, pairs: bool) -> _Law:
    rows = [
        [float(run.tasks), float(run.input_bytes), *([float(run.tasks * run.splits)] if pairs else [])]
        for run in sample
    ]
    return _Law(*_least(rows, values))


def _least(rows: list[list[float]], values: list[float]) -> list[float]:
    """Non-negative coefficients that fit best, each run's relative error counting the same."""
    import numpy as np
    from scipy.optimize import nnls

    matrix, wanted = np.array(rows), np.array(values)
    weights = 1 / np.maximum(wanted, 1e-3 * max(float(wanted.max()), 1e-12))
    scale = np.maximum(np.abs(matrix).max(axis=0), 1e-12)
    found, _ = nnls(matrix / scale * weights[:, None], wanted * weights)
    return [float(each) for each in found / scale]


def _assumed(samples: Samples, cluster: Cluster, *, like: bool) -> tuple[str, ...]:
    waits = (
        f"a request waits {cluster.latency * 1e3:g} ms, a worker has {cluster.bandwidth / 1e6:g} MB/s to the store"
        if cluster.latency
        else "the output is a disk that is never waited for"
    )
    looked = f"the input is like the {in_words(samples.input_bytes)} that were run"
    whole = samples.stages[0][-1].splits == 1
    return (
        *(["the input cannot be cut: what grows with the number of splits was not seen"] if whole else []),
        *([f"{looked}, also in its share of duplicates: a larger corpus has more"] if like else []),
        "a worker's core is as fast as this one, and has it to itself",
        waits,
        f"scheduler and driver take {SCHEDULER_SECONDS * 1e3:g} and {DRIVER_SECONDS * 1e3:g} ms a task",
        "no worker is lost, and none waits for another stage's stragglers beyond its last wave",
        "publishing, the start of workers, and the check of finished tasks when a run is continued are not counted",
    )


def cluster_for(workers: int, url: str) -> Cluster:
    """A cluster whose store is where the output is: a disk is not waited for."""
    from datapipe.storage import open_store

    return Cluster(workers=max(1, workers), **({} if open_store(url).local_path("x") is None else {"latency": 0.0}))


def forecast_run(
    plan: Plan,
    output: str,
    workers: int,
    *,
    documents: int | None = None,
    sample_bytes: int | None = None,
    storage_options: Any = None,
) -> RunCost:  # fmt: skip
    """Sample a plan, and say what it will cost: what `preprocess --dry-run` prints.

    Args:
        plan: by `plan_run`. output: where it would go; nothing is written there.
        workers: processes of one core. documents: see `run_cost`. sample_bytes: stored bytes to look at, about.

    Raises:
        ConfigError: the input cannot be sampled.
    """
    from datapipe.preprocess.sampled_run import SAMPLE_BYTES, run_samples

    samples = run_samples(plan, storage_options, sample_bytes or SAMPLE_BYTES)
    return run_cost(plan, samples, cluster_for(workers, output), documents)
