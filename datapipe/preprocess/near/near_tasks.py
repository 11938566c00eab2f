"""The tasks of near_duplicates beyond the map: pairs of a range of bands, links of a range of pairs, the clusters.

What enters: frozen tasks, files in the output store. What leaves: a file each, and a record. Invariant: each task's
file is a function of the files it reads; memory is bounded by `RECORDS` band records, `SETS` bytes of shingles, and for
the clusters by `components.IN_MEMORY` links: what is more is resolved on disk.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

from datapipe.preprocess.near.candidates import band_type, find_pairs, pair_type
from datapipe.preprocess.near.record_file import (
    CLASSES,
    RecordWriter,
    class_ranges,
    in_order,
    put_records,
    read_begins,
    read_records,
)
from datapipe.preprocess.prior_runs import known_of
from datapipe.preprocess.sorted_run import RunWriter, joined, parted, with_split
from datapipe.preprocess.task_clock import TaskClock
from datapipe.preprocess.tasks import Task
from datapipe.preprocess.work import WorkFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.preprocess.prior_runs import PriorRun
    from datapipe.preprocess.tasks import OutputFile, TaskRecord
    from datapipe.storage import Store

RECORDS: Final = 2_000_000
"""Band records compared at a time: 48 MB, five times that while they are sorted."""
SETS: Final = 64 << 20
"""Bytes of shingles held while pairs are verified."""

Files = tuple[tuple[int, str], ...]
"""(split or part, path) of each file."""


@dataclass(frozen=True, kw_only=True)
class RangedTask(Task):
    """A task over hashes of classes [low, high), which meets runs of earlier deliveries and leaves one of its own.

    Attributes:
        first: splits below it belong to earlier snapshots. runs: of those of them that the task is given no files of.
        keeps: the kind of the run that it writes; "": none.
    """

    low: int
    high: int
    first: int = 0
    runs: tuple[PriorRun, ...] = field(default=(), repr=False)
    keeps: str = ""


@final
@dataclass(frozen=True, kw_only=True)
class PairsTask(RangedTask):
    """Candidate pairs.

    Attributes:
        bands: band files by split. least: smaller / larger size of a pair that can reach the threshold.
    """

    counts: ClassVar[str] = "band hash"
    bands: Files = field(repr=False)
    least: float

    def run(self) -> TaskRecord:
        """See `Task.run`."""
        clock = TaskClock(self)
        store = self.output.open()
        work = WorkFolder(store)
        files: dict[str, OutputFile] = {}
        read = pairs = 0
        with contextlib.ExitStack() as stack:
            writer = RecordWriter("pairs", work, stack, distinct=True)
            kept = OwnRun(self, band_type(), work, stack)
            for own, where in by_range(store, self.bands, band_type(), self.low, self.high, RECORDS):
                kept.add(own, where)
                records, splits = with_known(store, self, band_type(), own, where)
                read += len(records)
                writer.add(find_pairs(records, splits, least=self.least, first=self.first))
            files |= kept.finish()
            made = writer.finish()
            if made is not None:
                path, pairs = made
                files["pairs"] = work.put_file("pairs", self.key, path)
        size = read * band_type().itemsize
        return clock.record("near_duplicates: pairs", rows_in=read, rows_out=pairs, bytes_in=size, files=files)


@final
@dataclass(frozen=True, kw_only=True)
class LinksTask(Task):
    """Pairs in classes [low, high), verified.

    Attributes:
        pairs: pair files. sets: sets files by split. threshold: the least similarity of a link; None: every pair is
            one.
    """

    counts: ClassVar[str] = "candidate pair"
    low: int
    high: int
    pairs: Files = field(repr=False)
    sets: Files = field(repr=False)
    threshold: float | None

    def run(self) -> TaskRecord:
        """See `Task.run`."""
        from datapipe.preprocess.near.links import verified

        clock = TaskClock(self)
        store = self.output.open()
        work = WorkFolder(store)
        files, read, linked = {}, 0, 0
        sets = dict(self.sets)
        with work.scratch_file("links") as path:
            with open(path, "wb") as file:  # noqa: PTH123
                for pairs, _ in by_range(store, self.pairs, pair_type(), self.low, self.high, RECORDS):
                    read += len(pairs)
                    for links in verified(store, sets, pairs, self.threshold, SETS):
                        linked += len(links)
                        put_records(file, links)
            if linked:
                files["links"] = work.put_file("links", self.key, path)
        size = read * pair_type().itemsize
        return clock.record("near_duplicates: verify", rows_in=read, rows_out=linked, bytes_in=size, files=files)


@final
@dataclass(frozen=True, kw_only=True)
class ClustersTask(Task):
    """The one task that sees all links.

    Attributes:
        links: link files. before: cluster tables of earlier snapshots. first: splits below it belong to those.
        documents: how many documents were compared. step: for what.
        runs: of earlier snapshots that `before` has no tables of. keeps: the kind of the run that it writes.
    """

    links: tuple[str, ...] = field(repr=False)
    before: tuple[str, ...] = field(default=(), repr=False)
    first: int = 0
    documents: int = 0
    step: str = "near_duplicates"
    runs: tuple[PriorRun, ...] = field(default=(), repr=False)
    keeps: str = ""

    def run(self) -> TaskRecord:
        """See `Task.run`."""
        from datapipe.preprocess.near.resolution import resolved

        clock = TaskClock(self)
        store = self.output.open()
        files, lists, dropped = resolved(store, self)
        return clock.record(
            f"{self.step}: clusters",
            rows_in=self.documents,
            rows_out=self.documents - dropped,
            bytes_in=self.bytes,
            files=files,
            lists=lists,
        )


def with_known(
    store: Store, task: RangedTask, kind: Any, records: npt.NDArray[np.void], splits: npt.NDArray[np.uint32]
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.uint32]]:
    """Records, with those of the task's runs that have a hash of the delivery's."""
    import numpy as np

    if not task.runs:
        return records, splits
    mine = records[(records.dtype.names or ("",))[0]][splits >= task.first]
    known, where = parted(known_of(store, task.runs, with_split(kind), mine), kind)
    return np.concatenate([records, known]), np.concatenate([splits, where])


@final
class OwnRun:
    """The run of a task's own, written as its records come; where it keeps none, nothing."""

    def __init__(self, task: RangedTask, kind: Any, work: WorkFolder, stack: contextlib.ExitStack) -> None:
        """`stack` removes what was not finished."""
        self._task = task
        self._work = work
        self._writer: RunWriter | None = None
        if task.keeps:
            self._path = stack.enter_context(work.scratch_file(task.keeps))
            self._writer = RunWriter(self._path, with_split(kind), task.low, task.high)
            stack.callback(self._writer.close)

    def add(self, records: npt.NDArray[np.void], splits: npt.NDArray[np.uint32]) -> None:
        """Records of classes after those that were added; of the delivery's splits they are kept."""
        mine = splits >= self._task.first
        if self._writer is not None:
            self._writer.add(in_order(joined(records[mine], splits[mine])))

    def finish(self) -> dict[str, OutputFile]:
        """The file, by its kind."""
        if self._writer is None:
            return {}
        self._writer.finish()
        return {self._task.keeps: self._work.keep_file(self._task.keeps, self._path)}


def by_range(
    store: Store, files: Sequence[tuple[int, str]], kind: Any, low: int, high: int, limit: int
) -> Iterator[tuple[npt.NDArray[np.void], npt.NDArray[np.uint32]]]:
    """The records of classes [low, high) of all files, in ranges of about `limit`, each with its file's number.

    Records of one class are never parted.
    """
    import numpy as np

    if not files:
        return
    begins = np.stack([read_begins(store, path, low, high) for _, path in files])
    for start, end in class_ranges(np.diff(begins, axis=1).sum(axis=0), limit):
        parts = [
            (read_records(store, path, kind, int(begin[start]), int(begin[end])), number)
            for (number, path), begin in zip(files, begins, strict=True)
        ]
        records = np.concatenate([part for part, _ in parts])
        numbers = np.concatenate([np.full(len(part), number, np.uint32) for part, number in parts])
        yield records, numbers


def ranges_of(tasks: int) -> list[tuple[int, int]]:
    """The classes of each of `tasks` tasks: [low, high)."""
    return list(itertools.pairwise(CLASSES * each // tasks for each in range(tasks + 1)))
