"""Which lines or paragraphs occur more than once, and where each occurs first.

What enters: hashes of pieces with their places, by ranges of the hash over all splits. What leaves: a list of the
repeated hashes with the first place of each, in the order of hashes. Invariant: a function of the pieces alone; memory
is `near_tasks.RECORDS` of them.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, final

from datapipe.preprocess.near import near_tasks
from datapipe.preprocess.near.near_tasks import by_range
from datapipe.preprocess.near.record_file import put_records
from datapipe.preprocess.task_clock import TaskClock
from datapipe.preprocess.tasks import Task
from datapipe.preprocess.work import WorkFolder

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from datapipe.preprocess.tasks import OutputFile, TaskRecord

_CHUNK = 16 << 20


def piece_type() -> Any:
    """The type of a record of a piece file."""
    import numpy as np

    return np.dtype([("high", "<u8"), ("low", "<u8"), ("position", "<u4"), ("number", "<u4"), ("row", "<u8")])


def repeated_pieces(
    records: npt.NDArray[np.void], splits: npt.NDArray[np.uint32], first: int = 0
) -> npt.NDArray[np.void]:
    """The hashes that occur more than once.

    Args:
        records: of `piece_type`, any order. splits: uint32[n], the split of each.
        first: a hash that occurs only in splits below it is left out.

    Returns:
        Records of `repeated_text.seen_type`, by hash: the first occurrence of each.
    """
    import numpy as np

    from datapipe.steps.repeated_text import seen_type

    order = np.lexsort((records["number"], records["position"], splits, records["low"], records["high"]))
    records, splits = records[order], splits[order]
    new = np.ones(len(records), bool)
    new[1:] = (records["high"][1:] != records["high"][:-1]) | (records["low"][1:] != records["low"][:-1])
    begins = np.flatnonzero(new)
    counts = np.diff(np.append(begins, len(records)))
    # The last of a group has its greatest split.
    wanted = (counts > 1) & (splits[begins + counts - 1] >= first) if len(begins) else np.zeros(0, bool)
    chosen = records[begins[wanted]]
    found = np.zeros(len(chosen), seen_type())
    for name in ("high", "low", "row", "number"):
        found[name] = chosen[name]
    return found


def firsts_of(
    records: npt.NDArray[np.void], splits: npt.NDArray[np.uint32]
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.uint32]]:
    """The first of each hash, and its split: all that a later delivery asks for."""
    import numpy as np

    order = np.lexsort((records["number"], records["position"], splits, records["low"], records["high"]))
    records, splits = records[order], splits[order]
    new = np.ones(len(records), bool)
    new[1:] = (records["high"][1:] != records["high"][:-1]) | (records["low"][1:] != records["low"][:-1])
    return records[new], splits[new]


@final
@dataclass(frozen=True, kw_only=True)
class RepeatedTask(near_tasks.RangedTask):
    """The repeated hashes; `pieces`: piece files by split."""

    counts: ClassVar[str] = "piece of text"
    pieces: tuple[tuple[int, str], ...] = field(repr=False)

    def run(self) -> TaskRecord:
        """See `Task.run`."""
        clock = TaskClock(self)
        store = self.output.open()
        work = WorkFolder(store)
        read = found = 0
        files: dict[str, OutputFile] = {}
        with contextlib.ExitStack() as stack:
            path = stack.enter_context(work.scratch_file("repeated"))
            kept = near_tasks.OwnRun(self, piece_type(), work, stack)
            with open(path, "wb") as file:  # noqa: PTH123
                limit = near_tasks.RECORDS
                for own, where in by_range(store, self.pieces, piece_type(), self.low, self.high, limit):
                    records, splits = near_tasks.with_known(store, self, piece_type(), own, where)
                    kept.add(*firsts_of(records, splits))
                    repeated = repeated_pieces(records, splits, self.first)
                    put_records(file, repeated)
                    read, found = read + len(records), found + len(repeated)
            files |= kept.finish()
            if found:
                files["repeated"] = work.put_file("repeated", self.key, path)
        return clock.record(self.name, rows_in=read, rows_out=found, bytes_in=self.bytes, files=files)


@final
@dataclass(frozen=True, kw_only=True)
class SeenTask(Task):
    """The lists of all ranges, one after the other: `repeated` are their paths, in the order of hashes."""

    counts: ClassVar[str] = "piece of text"
    repeated: tuple[str, ...] = field(repr=False)

    def run(self) -> TaskRecord:
        """See `Task.run`."""
        clock = TaskClock(self)
        store = self.output.open()
        work = WorkFolder(store)
        with contextlib.ExitStack() as stack:
            path = stack.enter_context(work.scratch_file("seen"))
            with open(path, "wb") as file:  # noqa: PTH123
                for part in self.repeated:
                    size = store.info(part).size
                    file.writelines(
                        store.read(part, start, min(start + _CHUNK, size)) for start in range(0, size, _CHUNK)
                    )
            files = {"seen": work.put_file("seen", self.key, path)}
        return clock.record(self.name, rows_in=0, rows_out=0, bytes_in=self.bytes, files=files)
