"""One bucket of hashes over all splits: which rows repeat an earlier one.

What enters: a `DuplicatesTask`, hash files. What leaves: a file of drop lists, one record batch per split that has any,
a run of the hashes that were not there before, and a record that says which batch is whose. Invariant: of the rows that
share a hash the first by (split, position) survives, whatever the number of buckets; memory is that of one bucket's
records, those of earlier deliveries apart that are in runs.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from datapipe.preprocess.hashes import read_hashes, record_type
from datapipe.preprocess.near.record_file import CLASSES
from datapipe.preprocess.prior_runs import known_of, written
from datapipe.preprocess.rows_file import RowsWriter
from datapipe.preprocess.sorted_run import joined, parted, with_split
from datapipe.preprocess.task_clock import TaskClock
from datapipe.preprocess.tasks import Task, TaskRecord
from datapipe.preprocess.work import WorkFolder

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from datapipe.preprocess.prior_runs import PriorRun


@final
@dataclass(frozen=True, kw_only=True)
class DuplicatesTask(Task):
    """One bucket of hashes over all splits.

    Attributes:
        low, high: the bucket: first bytes [low, high).
        hashes: (split, path of its hash file), by split.
        first: splits below it belong to an earlier snapshot: they are compared with, and nothing of them is dropped.
        runs: of splits of earlier snapshots that `hashes` has no files of. keeps: the kind of the run that it writes.
    """

    low: int
    high: int
    hashes: tuple[tuple[int, str], ...] = field(repr=False)
    first: int = 0
    runs: tuple[PriorRun, ...] = field(default=(), repr=False)
    keeps: str = ""

    def run(self) -> TaskRecord:
        """See `Task.run`."""
        return run_duplicates(self)


def run_duplicates(task: DuplicatesTask) -> TaskRecord:
    """Do the task; its file is stored, its record is returned (and not yet stored)."""
    import numpy as np
    import pyarrow as pa
    import xxhash

    clock = TaskClock(task)
    store = task.output.open()
    work = WorkFolder(store)
    records, splits = _gather(task)
    new = len(records)
    if task.runs:
        mine = records["high"][splits >= task.first]
        known, where = parted(known_of(store, task.runs, with_split(record_type()), mine), record_type())
        records, splits = np.concatenate([records, known]), np.concatenate([splits, where.astype(np.int64)])
    repeats, firsts = find_repeats(records, splits)
    ours = splits[repeats] >= task.first
    repeats, firsts = repeats[ours], firsts[ours]
    compared = int((splits >= task.first).sum())
    lists: dict[str, tuple[int, int, str]] = {}
    files = {}
    if task.keeps:
        fresh = splits[:new] >= task.first
        fresh[repeats] = False  # the first of a hash says all that a later delivery asks
        low, high = (CLASSES // 256 * each for each in (task.low, task.high))
        files[task.keeps] = written(work, task.keeps, joined(records[:new][fresh], splits[:new][fresh]), low, high)
    if len(repeats):
        with work.scratch_file("drops") as path:
            with RowsWriter(path) as writer:
                # By split, and by position within it: `repeats` are in hash order.
                order = np.lexsort((records["position"][repeats], splits[repeats]))
                repeats, firsts = repeats[order], firsts[order]
                bounds = np.flatnonzero(np.diff(splits[repeats], prepend=-1, append=-1))
                for number, (start, end) in enumerate(itertools.pairwise(bounds)):
                    mine, theirs = repeats[start:end], firsts[start:end]
                    columns: dict[str, Any] = {
                        "position": records["position"][mine],
                        "survivor_split": splits[theirs].astype(np.uint32),
                        "survivor_position": records["position"][theirs],
                    }
                    table = pa.table({name: pa.array(np.ascontiguousarray(c)) for name, c in columns.items()})
                    writer.write(table)
                    digest = xxhash.xxh3_64_hexdigest(
                        b"".join(np.ascontiguousarray(c).tobytes() for c in columns.values())
                    )
                    lists[str(int(splits[mine[0]]))] = (number, int(end - start), digest)
            files["drops"] = work.put_file("drops", task.key, path)
    return clock.record(
        task.name, rows_in=compared, rows_out=compared - len(repeats), bytes_in=records.nbytes, files=files, lists=lists
    )


def _gather(task: DuplicatesTask) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
    """The bucket's records of every split, and the split of each."""
    import numpy as np

    store = task.output.open()
    parts, splits = [np.zeros(0, record_type())], [np.zeros(0, np.int64)]
    for split, path in task.hashes:
        records = read_hashes(store, path, task.low, task.high)
        parts.append(records)
        splits.append(np.full(len(records), split, np.int64))
    return np.concatenate(parts), np.concatenate(splits)


def find_repeats(
    records: npt.NDArray[np.void], splits: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which records have the hash of an earlier one.

    Args:
        records: of `hashes.RECORD`, any order. splits: int64[n], the split of each.

    Returns:
        Two int64[m] of indices into `records`: the repeats, and for each the first of its hash by (split, position).
    """
    import numpy as np

    if not len(records):
        empty = np.zeros(0, np.int64)
        return empty, empty
    order = np.lexsort((records["position"], splits, records["low"], records["high"]))
    high, low = records["high"][order], records["low"][order]
    first = np.ones(len(order), bool)
    first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    leader = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    repeat = np.flatnonzero(~first)
    return order[repeat], order[leader[repeat]]
