"""What each stage of a plan costs on a little of its corpus: the run itself, over a few MiB, in a folder that goes.

What enters: a plan over all of the input. What leaves: for each stage, what its tasks used, in three small runs: one
split; one split four times as large; four splits. From these follow what a task costs, what a byte costs, and what a
task costs for each split that there is (`cost_model`). An input that is no larger than the sample is run whole, and its
documents are counted. Invariant: the output and the input are left as they are; the steps are those of the recipe, a
user's own among them; nothing runs in parallel.
"""

from __future__ import annotations

import dataclasses
import pickle
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, final

from datapipe.errors import ConfigError
from datapipe.preprocess.counted_store import CountedPlace, Counts
from datapipe.preprocess.encrypting import sealing_of_trial
from datapipe.preprocess.execute import execute
from datapipe.preprocess.limits import Limits, memory_of
from datapipe.preprocess.made import Made
from datapipe.preprocess.plan import build_plan
from datapipe.preprocess.stage_tasks import tasks_of
from datapipe.preprocess.work import WorkFolder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.corpus import Split
    from datapipe.preprocess.plan import Plan
    from datapipe.preprocess.tasks import TaskRecord

SPLITS: Final = 4
SAMPLE_BYTES: Final = 4 << 20
"""Stored bytes that are looked at, about: a few seconds of work for the costliest recipe that is shipped."""
MOST_BYTES: Final = 256 << 20
"""Of the sample: a compressed file and a row group cannot be cut."""
_LOOK: Final = 0.002


@final
@dataclass(frozen=True, kw_only=True)
class StageSample:
    """What one stage used in one small run, its tasks together.

    Attributes:
        tasks: how many. splits, input_bytes: of the run.
        seconds: of processor time. gets, puts, read, written: asked of the output's store.
        task_bytes: of the tasks as they are sent to workers. record_bytes: of what is kept of their records.
        memory: bytes that the process grew by, at most.
    """

    tasks: int
    splits: int
    input_bytes: int
    seconds: float
    gets: int
    puts: int
    read: int
    written: int
    task_bytes: int
    record_bytes: int
    memory: int


@final
@dataclass(frozen=True, kw_only=True)
class Samples:
    """The small runs.

    Attributes:
        stages: by stage, its figures in each of the three runs.
        documents, text_bytes: per stored byte of the input.
        whole: how many documents the input has, where all of it was looked at; else None.
        baseline: bytes of memory that the process held before a task, libraries loaded.
        seconds: that the sampling took. input_bytes: that it looked at.
    """

    stages: tuple[tuple[StageSample, ...], ...]
    documents: float
    text_bytes: float
    baseline: int
    seconds: float
    input_bytes: int
    whole: int | None = None


def run_samples(
    plan: Plan, storage_options: Mapping[str, Any] | None = None, sample_bytes: int = SAMPLE_BYTES
) -> Samples:  # fmt: skip
    """Run a plan on a little of its input, three times.

    Raises:
        ConfigError: the input cannot be cut that small. What a run raises.
    """
    began = time.perf_counter()
    all_of_it = plan.bytes <= min(sample_bytes, MOST_BYTES)
    take = _all if all_of_it else _few
    splits = take(plan, max(1, min(sample_bytes, plan.bytes) // SPLITS), storage_options)
    whole = _joined(0, splits)
    runs = [[splits[0]], [whole], splits]
    with tempfile.TemporaryDirectory(prefix="datapipe-sample-") as folder:
        # What is imported and cached at the first time is no cost of a task.
        _run(plan, runs[0], f"{folder}/warm", storage_options)
        baseline = _trimmed()
        found = [_run(plan, each, f"{folder}/{number}", storage_options) for number, each in enumerate(runs)]
    read = [record for record, _ in found[1][1]]
    rows = sum(record.rows_in + sum(record.quarantined.values()) for record in read)
    # Row groups are not all of a file's bytes.
    stored = max(1, plan.bytes if all_of_it else whole.bytes)
    return Samples(
        stages=tuple(zip(*(stages for stages, _ in found), strict=True)),
        documents=rows / stored,
        text_bytes=sum(record.text_bytes for record in read) / stored,
        baseline=baseline,
        seconds=time.perf_counter() - began,
        input_bytes=plan.bytes if all_of_it else whole.bytes,
        whole=rows if all_of_it else None,
    )


def _all(plan: Plan, size: int, storage_options: Mapping[str, Any] | None) -> list[Split]:
    """All of the input in `SPLITS` splits of about `size` bytes; fewer where it cannot be cut."""
    from datapipe.corpus import plan_splits

    files = list(dict.fromkeys(piece.file for split in plan.splits for piece in split.pieces))
    cut = plan_splits(files, target_bytes=size, storage_options=storage_options)
    parts = [cut[len(cut) * n // SPLITS : len(cut) * (n + 1) // SPLITS] for n in range(SPLITS)]
    return [_joined(index, part) for index, part in enumerate(filter(None, parts))]


def _joined(index: int, splits: list[Split]) -> Split:
    pieces = tuple(piece for split in splits for piece in split.pieces)
    return dataclasses.replace(splits[0], index=index, pieces=pieces, bytes=sum(split.bytes for split in splits))


def _few(plan: Plan, size: int, storage_options: Mapping[str, Any] | None) -> list[Split]:
    """Splits of about `size` bytes from the beginning, the middle and the end of the input; one where it is small."""
    from datapipe.corpus import plan_splits

    places = [len(plan.splits) * (2 * n + 1) // (2 * SPLITS) for n in range(SPLITS)]
    found: dict[Any, Split] = {}
    for number, place in enumerate(places):
        files = list(dict.fromkeys(piece.file for piece in plan.splits[place].pieces))
        cut = plan_splits(files, target_bytes=size, storage_options=storage_options)
        one = cut[len(cut) * (2 * number + 1) // (2 * SPLITS)]
        found.setdefault(one.pieces, one)
    total = sum(split.bytes for split in found.values())
    if total > MOST_BYTES:
        raise ConfigError(
            f"the smallest parts that the input can be read in are {total // len(found):,} bytes",
            expected=f"a sample of {MOST_BYTES:,} bytes at most",
            fix="--sample 0: the plan without its cost",
        )
    return [dataclasses.replace(split, index=index) for index, split in enumerate(found.values())]


def _run(
    plan: Plan, splits: list[Split], folder: str, storage_options: Mapping[str, Any] | None
) -> tuple[list[StageSample], list[tuple[TaskRecord, int]]]:
    """The plan over these splits: figures of each stage, and the records of the stage that reads the corpus."""
    small = build_plan(plan.recipe, splits, resources=plan.resources)
    counts = Counts()
    # A sample asks no one for keys, and what it writes lies in the open as little as what the run will write.
    place = CountedPlace(url=folder, counts=counts, sealing=sealing_of_trial(plan.recipe))
    work = WorkFolder(place.open())
    made = Made(small, place, {path: work.copy_file("resource", sum_, path) for path, sum_ in plan.resources.items()})
    stages, reading = [], []
    size = sum(split.bytes for split in splits)
    for stage in small.stages:
        tasks = list(tasks_of(stage, made, storage_options))
        before = counts.copy()
        with _Growth() as grown:
            cpu = time.process_time()
            records = {task.split: execute(task, Limits(memory=0, batch_seconds=0)) for task in tasks}
            seconds = time.process_time() - cpu
        made.records[stage.number] = records
        asked = counts.since(before)
        stages.append(
            StageSample(
                tasks=len(tasks),
                splits=len(splits),
                input_bytes=size,
                seconds=seconds,
                gets=asked.gets,
                puts=asked.puts,
                read=asked.read,
                written=asked.written,
                task_bytes=sum(len(pickle.dumps(task)) for task in tasks),
                # As the driver keeps them.
                record_bytes=sum(
                    len(pickle.dumps(dataclasses.replace(record, rejects=(), steps=()))) for record in records.values()
                ),
                memory=grown.most,
            )
        )
        if stage.number == 0:
            reading = [(record, 0) for record in records.values()]
    return stages, reading


def _trimmed() -> int:
    """Give back what is free; bytes that the process holds then."""
    import ctypes
    import gc
    import os

    import pyarrow as pa

    gc.collect()
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
    if trim is not None:
        trim(0)
    return memory_of(os.getpid())


class _Growth:
    """What the process grows by while the block runs, looked at every 2 ms."""

    def __enter__(self) -> Self:
        import os

        self.most = 0
        self._before = _trimmed()
        self._own = os.getpid()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="growth", daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(_LOOK):
            self.most = max(self.most, memory_of(self._own) - self._before)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.most = max(self.most, memory_of(self._own) - self._before)
