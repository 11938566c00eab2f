"""The one task of a mix stage: labels and draws of all rows → which rows are outside the mixture.

What enters: a `MixTask`, one file of records a split. What leaves: a drop list, one record batch per split with any.
Invariant: of each label exactly as many rows stay as `steps.mix.mixture` says, those with the least (draw, split,
position); memory is that of one split's records, of 4,096 counters a label, and of 1/4,096 of a label's records.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import PreprocessError
from datapipe.preprocess.rows_file import RowsWriter
from datapipe.preprocess.task_clock import TaskClock
from datapipe.preprocess.tasks import Task, TaskRecord
from datapipe.preprocess.work import WorkFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from datapipe.steps.mix import MixOptions

RECORD: Final = [("label", "<u4"), ("position", "<u4"), ("draw", "<u8")]
_SHIFT: Final = 52
_BINS: Final = 1 << (64 - _SHIFT)


@final
@dataclass(frozen=True, kw_only=True)
class MixTask(Task):
    """Choose the rows of a mixture: `labels` are (split, path of its records), by split; `options` the step's."""

    options: dict[str, Any]
    labels: tuple[tuple[int, str], ...] = field(repr=False)

    def run(self) -> TaskRecord:
        """See `Task.run`."""
        return run_mix(self)


def run_mix(task: MixTask) -> TaskRecord:
    """Do the task; its file is stored, its record is returned (and not yet stored).

    Raises:
        PreprocessError: there is no row of a label that is to have a share.
    """
    import pyarrow as pa
    import xxhash

    from datapipe.steps import find_step, options_from

    clock = TaskClock(task)
    work = WorkFolder(task.output.open())
    options: MixOptions = options_from(find_step("mix"), task.options)
    chosen = _Chosen(task, work, options)
    rows = dropped = batches = 0
    lists: dict[str, tuple[int, int, str]] = {}
    files = {}
    with work.scratch_file("drops") as path:
        with RowsWriter(path) as writer:
            for split, records in _records(task, work):
                rows += len(records)
                gone = records["position"][~chosen.stays(split, records)]
                gone.sort()
                if not len(gone):
                    continue
                # A row outside the mixture lost to no other one: its own place stands for that.
                columns = {"position": gone, "survivor_split": gone * 0 + split, "survivor_position": gone}
                writer.write(pa.table({name: pa.array(values, pa.uint32()) for name, values in columns.items()}))
                lists[str(split)] = (batches, len(gone), xxhash.xxh3_64_hexdigest(gone.tobytes()))
                batches += 1
                dropped += len(gone)
        if batches:
            files["drops"] = work.put_file("drops", task.key, path)
    return clock.record(
        "mix: choose", rows_in=rows, rows_out=rows - dropped, bytes_in=rows * 16, files=files, lists=lists
    )


def _records(task: MixTask, work: WorkFolder) -> Iterator[tuple[int, npt.NDArray[np.void]]]:
    import numpy as np

    for split, path in task.labels:
        yield split, np.frombuffer(work.store.read(path), np.dtype(RECORD))


@final
class _Chosen:
    """Which rows are in the mixture: of each label those below a bin of draws, and in that bin those up to a row."""

    def __init__(self, task: MixTask, work: WorkFolder, options: MixOptions) -> None:
        import numpy as np

        from datapipe.steps.mix import mixture

        names = list(options.shares)
        counts = np.zeros((len(names) + 1, _BINS), np.int64)
        for _, records in _records(task, work):
            np.add.at(counts, (records["label"], _bins(records)), 1)
        available = counts.sum(axis=1)
        for name, n in zip(names, available.tolist(), strict=False):
            if options.shares[name] and not n:
                raise PreprocessError(
                    f"mix: no row has {options.by} = {name!r}",
                    expected="rows of every label that has a share",
                    fix=f"take {name!r} out of mix.shares, or give it 0",
                )
        wanted = mixture(available[:-1].tolist(), [options.shares[name] for name in names], options.total)
        wanted.append(0 if options.others == "drop" else int(available[-1]))
        below = np.cumsum(counts, axis=1)
        # The bin in which a label's last row lies (`_BINS` where all of its rows stay), and how many of it stay.
        self.bins = np.array([np.searchsorted(each, n, "left") for each, n in zip(below, wanted, strict=True)])
        full = np.array(wanted) == available
        self.bins[full] = _BINS
        self._last: dict[int, tuple[int, int, int]] = {}
        inside = {
            label: wanted[label] - (int(below[label, bin_ - 1]) if bin_ else 0)
            for label, bin_ in enumerate(self.bins.tolist())
            if bin_ < _BINS
        }
        self._find_last(task, work, inside)

    def _find_last(self, task: MixTask, work: WorkFolder, inside: dict[int, int]) -> None:
        import numpy as np

        parts: dict[int, list[npt.NDArray[np.uint64]]] = {label: [] for label in inside}
        for split, records in _records(task, work):
            for label in inside:
                mine = records[(records["label"] == label) & (_bins(records) == self.bins[label])]
                place = np.full(len(mine), split, np.uint64)
                parts[label].append(np.column_stack([mine["draw"], place, mine["position"].astype(np.uint64)]))
        for label, n in inside.items():
            rows = np.concatenate(parts[label])
            order = np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))
            draw, split, position = rows[order[n - 1]].tolist() if n else (-1, -1, -1)
            self._last[label] = (draw, split, position)

    def stays(self, split: int, records: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Which of a split's rows are in the mixture: bool[n]."""
        import numpy as np

        bins = _bins(records)
        stays = np.asarray(bins < self.bins[records["label"]])
        for label, last in self._last.items():
            for row in np.flatnonzero((records["label"] == label) & (bins == self.bins[label])).tolist():
                stays[row] = (int(records["draw"][row]), split, int(records["position"][row])) <= last
        return stays


def _bins(records: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    import numpy as np

    return (records["draw"] >> np.uint64(_SHIFT)).astype(np.int64)
