"""The rows of one split, with the columns that the ranges have found for them.

What enters: a rows file, and the split's part of what each range found. What leaves: a rows file of the same rows in
the same order and batches, with the new columns and whether there was a record. Invariant: rows are told apart by their
position, of which a split has each once; memory is that of the joined columns of one split.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from datapipe.errors import ConfigError
from datapipe.preprocess.rows_file import RowsWriter, read_rows
from datapipe.preprocess.stage import ROWS
from datapipe.preprocess.step_order import POSITION
from datapipe.preprocess.task_clock import TaskClock
from datapipe.preprocess.tasks import Task, TaskRecord
from datapipe.preprocess.work import WorkFolder

if TYPE_CHECKING:
    import pyarrow as pa


@final
@dataclass(frozen=True, kw_only=True)
class AttachTask(Task):
    """Join a split: `rows` is its rows file, `parts` are (path, batch) of what was found, `schema` of those columns."""

    rows: str
    parts: tuple[tuple[str, int], ...] = field(repr=False)
    schema: str = field(repr=False)

    def run(self) -> TaskRecord:
        """See `Task.run`.

        Raises:
            ConfigError: the rows have a column that is to be new.
        """
        import pyarrow as pa

        from datapipe.steps.columns import text_bytes_of
        from datapipe.steps.join import JOINED

        clock = TaskClock(self)
        work = WorkFolder(self.output.open())
        found = self._found(work)
        positions = found.column("position").to_numpy()
        columns = found.drop_columns(["position"])
        count = size = text_bytes = 0
        with work.scratch_file(ROWS) as path:
            with RowsWriter(path) as writer:
                for table in read_rows(work.store, self.rows):
                    rows = _rows_of(table.column(POSITION).to_numpy(), positions)
                    for name in columns.column_names:
                        if name in table.column_names:
                            raise ConfigError(
                                f"join: the table has a column {name!r} already",
                                expected="new columns",
                                fix=f"give it another name: join.columns = {{joined_{name}: …}}",
                            )
                        table = table.append_column(name, columns.column(name).take(rows))  # noqa: PLW2901
                    count += table.num_rows
                    size += table.nbytes
                    text_bytes += text_bytes_of(table)
                    writer.write(table.append_column(JOINED, pa.chunked_array([rows.is_valid()])))
            files = {ROWS: work.put_file(ROWS, self.key, path)} if count else {}
        return clock.record(
            "join: attach", rows_in=count, rows_out=count, bytes_in=size, files=files, text_bytes=text_bytes
        )

    def _found(self, work: WorkFolder) -> pa.Table:
        """What was found for the split, by position."""
        import pyarrow as pa

        from datapipe.dataset.manifest import decode_schema
        from datapipe.steps.join_right import KEY, NEWEST

        tables = [next(read_rows(work.store, path, first=batch)) for path, batch in self.parts]
        if not tables:
            schema = decode_schema(self.schema)
            for name in (KEY, NEWEST):
                if name in schema.names:
                    schema = schema.remove(schema.get_field_index(name))
            return schema.append(pa.field("position", pa.uint32())).empty_table()
        return pa.concat_tables(tables).combine_chunks().sort_by("position")


def _rows_of(wanted: Any, positions: Any) -> Any:
    """Where each wanted position stands among `positions` (ascending): int64[n], null where it does not."""
    import numpy as np
    import pyarrow as pa

    if not len(positions):
        return pa.nulls(len(wanted), pa.int64())
    places = np.minimum(np.searchsorted(positions, wanted), len(positions) - 1)
    return pa.array(places, mask=positions[places] != wanted)
