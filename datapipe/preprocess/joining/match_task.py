"""One range of hashed keys, of both sides → for each split, the joined columns of those of its rows that have a record.

What enters: the runs of every joined file and the key files of every split, one range of each. What leaves: a file with
a record batch per split that has any, and a record that says which batch is whose. Invariant: what a row gets is the
one record that its key has, by the options, whatever the number of ranges; memory is that of the range's records and of
one split's rows in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

from datapipe.preprocess.rows_file import RowsWriter, read_rows
from datapipe.preprocess.task_clock import TaskClock
from datapipe.preprocess.tasks import Task, TaskRecord
from datapipe.preprocess.work import WorkFolder

if TYPE_CHECKING:
    import pyarrow as pa

FOUND: Final = "joinfound"


@final
@dataclass(frozen=True, kw_only=True)
class MatchTask(Task):
    """Join a range.

    Attributes:
        runs: (path, its batches of this range) of each joined file, in the order of the files.
        keys: (split, path of its key file).
        duplicates: as in the options.
    """

    runs: tuple[tuple[str, tuple[int, ...]], ...] = field(repr=False)
    keys: tuple[tuple[int, str], ...] = field(repr=False)
    duplicates: str

    def run(self) -> TaskRecord:
        """See `Task.run`."""
        import xxhash

        from datapipe.steps.join_known import known_of

        clock = TaskClock(self)
        work = WorkFolder(self.output.open())
        tables: list[pa.Table] = []
        for path, batches in self.runs:
            tables += [next(read_rows(work.store, path, first=batch)) for batch in batches]
        known = known_of(tables, self.duplicates)
        lists: dict[str, tuple[int, int, str]] = {}
        compared = joined = 0
        with work.scratch_file(FOUND) as path:
            with RowsWriter(path) as writer:
                for split, keys in self.keys:
                    asked = next(read_rows(work.store, keys, first=self.split))
                    compared += asked.num_rows
                    rows = known.rows_of(asked.column("key").combine_chunks()) if asked.num_rows else None
                    if rows is None or rows.null_count == len(rows):
                        continue
                    there = rows.is_valid()
                    found = known.columns.take(rows.filter(there)).append_column(
                        "position", asked.column("position").filter(there)
                    )
                    (batch,) = found.combine_chunks().to_batches()
                    lists[str(split)] = (len(lists), batch.num_rows, xxhash.xxh3_64_hexdigest(batch.serialize()))
                    writer.write(found)
                    joined += batch.num_rows
            files = {FOUND: work.put_file(FOUND, self.key, path)} if joined else {}
        size = sum(table.nbytes for table in tables)
        return clock.record(
            "join: match",
            rows_in=compared,
            rows_out=joined,
            bytes_in=size,
            files=files,
            lists=lists,
        )
