"""The records of one joined file → runs: for each range of hashed keys, the record batches that hold its records.

What enters: a file in the work folder. What leaves: a rows file with the same records, a batch of one range each, and a
record that says which batches are whose. Invariant: every record with a key is in one run, in the order of the file;
memory is bounded by `HELD`, whatever the size of the file.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.preprocess.joining.key_file import ranges_of
from datapipe.preprocess.rows_file import RowsWriter
from datapipe.preprocess.task_clock import TaskClock
from datapipe.preprocess.tasks import Task, TaskRecord
from datapipe.preprocess.work import WorkFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from datapipe.steps.join_right import Wanted

RUNS: Final = "joinruns"
SCHEMA: Final = "schema"
HELD: Final = 64 << 20
"""Bytes of records that are cut into ranges together."""
_CHUNK: Final = 16 << 20


@final
@dataclass(frozen=True, kw_only=True)
class RightTask(Task):
    """Cut a file: `file` is its path in the output store, `shown` its name; `wanted` what is read of it."""

    counts = "record"
    file: str
    shown: str
    wanted: Wanted
    ranges: int

    def run(self) -> TaskRecord:
        """See `Task.run`."""
        from datapipe.dataset.manifest import encode_schema
        from datapipe.steps.join_right import right_batches, same_types

        clock = TaskClock(self)
        work = WorkFolder(self.output.open())
        runs: dict[str, list[int]] = {}
        count = size = batches = 0
        schema = None
        with contextlib.ExitStack() as stack:
            path = self._local(work, stack)
            scratch = stack.enter_context(work.scratch_file(RUNS))
            with RowsWriter(scratch) as writer:
                for table in _held(right_batches(path, self.wanted, self.shown)):
                    schema = same_types([table.schema if schema is None else schema, table.schema])
                    count += table.num_rows
                    size += table.nbytes
                    for number, records in self._cut(table):
                        run = runs.setdefault(str(number), [0])
                        run[0] += records.num_rows
                        run.append(batches)
                        writer.write(records)
                        batches += 1
            files = {RUNS: work.put_file(RUNS, self.key, scratch)} if batches else {}
        assert schema is not None
        return clock.record(
            "join: cut",
            rows_in=count,
            rows_out=count,
            bytes_in=size,
            files=files,
            found={RUNS: runs, SCHEMA: encode_schema(schema)},
        )

    def _local(self, work: WorkFolder, stack: contextlib.ExitStack) -> str:
        """The file on this machine; of a remote one a copy, fetched part by part."""
        local = work.store.local_path(self.file)
        if local is not None:
            return local
        path = stack.enter_context(work.scratch_file(RUNS))
        size = work.store.info(self.file).size
        with open(path, "wb") as copy:  # noqa: PTH123  (a plain path)
            copy.writelines(
                work.store.read(self.file, start, min(start + _CHUNK, size)) for start in range(0, size, _CHUNK)
            )
        return os.fspath(path)

    def _cut(self, table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """(range, its records of the table), by range; the records in their order."""
        import numpy as np
        import pyarrow as pa

        from datapipe.steps.join_right import KEY

        ranges = ranges_of(table.column(KEY), self.ranges)
        order = np.argsort(ranges, kind="stable")
        table = table.take(pa.array(order))
        edges = np.flatnonzero(np.diff(ranges[order], prepend=-1, append=-1))
        for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            yield int(ranges[order[start]]), table.slice(start, end - start)


def _held(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The tables, `HELD` bytes at a time."""
    import pyarrow as pa

    from datapipe.steps.join_right import same_types

    held: list[pa.Table] = []
    size = 0
    for table in tables:
        held.append(table)
        size += table.nbytes
        if size >= HELD:
            same_types([each.schema for each in held])
            yield pa.concat_tables(held).combine_chunks()
            held, size = [], 0
    if held:
        same_types([each.schema for each in held])
        yield pa.concat_tables(held).combine_chunks()
