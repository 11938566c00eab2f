"""The runs of one part → the rows of a split, sorted.

What enters: the record batches of one part, of every split. What leaves: a rows file; `__position` counts anew.
Invariant: the rows are those of the runs, in the one order there is; memory is that of one part, twice: about the size
of an ordinary split.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, final

from datapipe.preprocess.moving.row_order import joined, keys_of, sorted_rows
from datapipe.preprocess.rows_file import RowsWriter, conform, read_rows
from datapipe.preprocess.stage import ROWS
from datapipe.preprocess.step_order import POSITION
from datapipe.preprocess.task_clock import TaskClock
from datapipe.preprocess.tasks import Task, TaskRecord
from datapipe.preprocess.work import WorkFolder

BATCH_BYTES: Final = 8 << 20
"""Of the rows that leave, as of those that readers give."""


@final
@dataclass(frozen=True, kw_only=True)
class MergeTask(Task):
    """Sort a part: `runs` are (split, path, batches) by split, the rest is what orders the rows."""

    step: str
    options: dict[str, Any]
    seed: int
    runs: tuple[tuple[int, str, tuple[int, ...]], ...] = field(repr=False)

    def run(self) -> TaskRecord:
        """See `Task.run`."""
        import pyarrow as pa

        from datapipe.steps import find_step, options_from
        from datapipe.steps.columns import set_column, text_bytes_of

        clock = TaskClock(self)
        work = WorkFolder(self.output.open())
        options = options_from(find_step(self.step), self.options)
        tables: list[pa.Table] = []
        keys: list[pa.Table] = []
        for split, path, batches in self.runs:
            for batch in batches:
                table = next(read_rows(work.store, path, first=batch))
                keys.append(keys_of(table, self.step, options, self.seed, split))
                tables.append(conform(table, tables[0].schema) if tables else table)
        whole = pa.concat_tables(tables)
        order = sorted_rows(joined(keys), options)
        n, size = whole.num_rows, whole.nbytes
        rows = max(1, BATCH_BYTES * n // max(1, size))
        text_bytes = 0
        with work.scratch_file(ROWS) as path:
            with RowsWriter(path) as writer:
                for start in range(0, n, rows):
                    part = whole.take(order.slice(start, rows))
                    position = pa.array(range(start, start + part.num_rows), pa.uint32())
                    text_bytes += text_bytes_of(part)
                    writer.write(set_column(part, POSITION, position))
            file = work.put_file(ROWS, self.key, path)
        return clock.record(
            f"{self.step}: order",
            rows_in=n,
            rows_out=writer.rows,
            bytes_in=size,
            files={ROWS: file},
            text_bytes=text_bytes,
        )
