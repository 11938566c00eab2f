"""A sample of the keys of all splits → the first keys of the parts.

What enters: key files, one a split, each row with the number of rows it stands for. What leaves: a file of at most
parts - 1 keys in order. Invariant: the bounds are a function of the samples; memory is that of the samples, some
hundred keys for each part.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.preprocess.moving.row_order import joined, sorted_rows
from datapipe.preprocess.rows_file import RowsWriter, read_rows
from datapipe.preprocess.tasks import Task, TaskRecord
from datapipe.preprocess.work import WorkFolder

if TYPE_CHECKING:
    import pyarrow as pa

SPLITTERS: Final = "splitters"
WEIGHT: Final = "weight"
PER_PART: Final = 256
"""Keys in the sample for each part: parts then differ in size by some 1/16 of it."""


@final
@dataclass(frozen=True, kw_only=True)
class SplittersTask(Task):
    """Choose the bounds of `parts` parts: `samples` are paths of key files; `step`, `options`: what orders the rows."""

    step: str
    options: dict[str, Any]
    parts: int
    samples: tuple[str, ...] = field(repr=False)

    def run(self) -> TaskRecord:
        """See `Task.run`."""
        started = time.perf_counter()
        work = WorkFolder(self.output.open())
        tables = [table for path in self.samples for table in read_rows(work.store, path)]
        files = {}
        if tables:
            from datapipe.steps import find_step, options_from

            options = options_from(find_step(self.step), self.options)
            with work.scratch_file(SPLITTERS) as path:
                with RowsWriter(path) as writer:
                    writer.write(bounds_of(joined(tables), self.parts, options))
                if writer.rows:
                    files[SPLITTERS] = work.put_file(SPLITTERS, self.key, path)
        rows = sum(table.num_rows for table in tables)
        return TaskRecord(
            key=self.key,
            stage=self.name,
            split=self.split,
            seconds=time.perf_counter() - started,
            files=files,
            rows_in=rows,
            rows_out=rows,
        )


def bounds_of(sample: pa.Table, parts: int, options: Any) -> pa.Table:
    """At most parts - 1 keys that cut the rows into parts of about equal size.

    Args:
        sample: keys, and the column `weight`: how many rows each stands for.
    """
    import numpy as np

    sample = sample.take(sorted_rows(sample, options))
    weights = sample.column(WEIGHT).to_numpy()
    reached = np.cumsum(weights) - weights
    wanted = np.arange(1, parts) * (weights.sum() / parts)
    # The first row of the sample is no bound: nothing comes before it.
    places = np.unique(np.searchsorted(reached, wanted, "left"))
    places = places[(places > 0) & (places < sample.num_rows)]
    return sample.take(places).drop_columns([WEIGHT])
