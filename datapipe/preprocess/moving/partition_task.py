"""The rows of one split → runs: for each part, the record batches that hold its rows.

What enters: a rows file, the bounds of the parts. What leaves: a rows file with the same rows, batch by batch of one
part each, and a record that says which batches are whose. Invariant: every row is in one run; memory is bounded by
`HELD`, whatever the size of the split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.preprocess.moving.row_order import keys_of, parts_of
from datapipe.preprocess.rows_file import RowsWriter, conform, read_rows
from datapipe.preprocess.task_clock import TaskClock
from datapipe.preprocess.tasks import Task, TaskRecord
from datapipe.preprocess.work import WorkFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from datapipe.storage import Store

RUNS: Final = "runs"
HELD: Final = 64 << 20
"""Bytes of rows that are cut into parts together. With 1,000 parts that is 64 KB a batch."""


@final
@dataclass(frozen=True, kw_only=True)
class PartitionTask(Task):
    """Cut a split: `rows` and `bounds` are paths (`bounds` "" for one part), the rest is what orders the rows."""

    step: str
    options: dict[str, Any]
    seed: int
    rows: str
    bounds: str

    def run(self) -> TaskRecord:
        """See `Task.run`."""
        from datapipe.steps import find_step, options_from

        clock = TaskClock(self)
        work = WorkFolder(self.output.open())
        options = options_from(find_step(self.step), self.options)
        bounds = next(read_rows(work.store, self.bounds)) if self.bounds else None
        runs: dict[str, list[int]] = {}
        count = size = batches = 0
        with work.scratch_file(RUNS) as path:
            with RowsWriter(path) as writer:
                for table in _held(work.store, self.rows):
                    count += table.num_rows
                    size += table.nbytes
                    for part, rows in self._cut(table, bounds, options):
                        run = runs.setdefault(str(part), [0])
                        run[0] += rows.num_rows
                        run.append(batches)
                        writer.write(rows)
                        batches += 1
            file = work.put_file(RUNS, self.key, path)
        return clock.record(
            f"{self.step}: cut", rows_in=count, rows_out=count, bytes_in=size, files={RUNS: file}, found={RUNS: runs}
        )

    def _cut(self, table: pa.Table, bounds: pa.Table | None, options: Any) -> Iterator[tuple[int, pa.Table]]:
        """(part, its rows of the table), by part; the rows in their order."""
        import numpy as np
        import pyarrow as pa

        if bounds is None:
            yield 0, table
            return
        parts = parts_of(keys_of(table, self.step, options, self.seed, self.split), bounds, options)
        order = np.argsort(parts, kind="stable")
        table = table.take(pa.array(order))
        edges = np.flatnonzero(np.diff(parts[order], prepend=-1, append=-1))
        for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            yield int(parts[order[start]]), table.slice(start, end - start)


def _held(store: Store, path: str) -> Iterator[pa.Table]:
    """The rows of a file, `HELD` bytes at a time."""
    import pyarrow as pa

    from datapipe.steps.columns import classic

    held: list[pa.Table] = []
    size = 0
    for batch in read_rows(store, path):
        table = classic(batch)
        held.append(conform(table, held[0].schema) if held else table)
        size += table.nbytes
        if size >= HELD:
            yield pa.concat_tables(held).combine_chunks()
            held, size = [], 0
    if held:
        yield pa.concat_tables(held).combine_chunks()
