"""What a map task writes beside a shard: rows for the next stage, or what a global step needs of each row.

What enters: batches, in order. What leaves: one file in the work folder, or none. Invariant: the file is a function of
the batches; memory is bounded by what the collector says.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar, final

from datapipe.preprocess.rows_file import RowsWriter

if TYPE_CHECKING:
    import contextlib

    import pyarrow as pa

    from datapipe.preprocess.tasks import MapTask, OutputFile
    from datapipe.preprocess.work import WorkFolder


class Collector(abc.ABC):
    """Made once a task, fed each batch, finished once.

    Attributes:
        as_read: whether it is fed the rows as they were read, before any step; else those that came through.
        kept: whether later deliveries are compared with its file: it goes into the dataset's index.
    """

    as_read: ClassVar[bool] = False
    kept: ClassVar[bool] = False

    def __init__(self, kind: str, task: MapTask, work: WorkFolder, stack: contextlib.ExitStack) -> None:
        """`stack` closes what the collector opens, whatever happens; `task.settings` holds what its pass set."""
        self.kind = kind
        self.task = task
        self.work = work
        self.stack = stack

    @abc.abstractmethod
    def add(self, table: pa.Table) -> None:
        """One batch with `row_id` and `__position`; after the steps, with the columns of the row half."""

    @abc.abstractmethod
    def finish(self) -> OutputFile | None:
        """Store the file; None where there is nothing to store."""


class TableCollector(Collector):
    """A collector whose file is rows: Arrow IPC, a batch in memory at a time."""

    def __init__(self, kind: str, task: MapTask, work: WorkFolder, stack: contextlib.ExitStack) -> None:
        super().__init__(kind, task, work, stack)
        self._path = stack.enter_context(work.scratch_file(kind))
        self._writer = RowsWriter(self._path)
        stack.callback(self._writer.close)

    def add(self, table: pa.Table) -> None:
        """See `Collector.add`."""
        self._writer.write(self.chosen(table))

    @abc.abstractmethod
    def chosen(self, table: pa.Table) -> pa.Table:
        """What is written of a batch."""

    def finish(self) -> OutputFile | None:
        """See `Collector.finish`."""
        self._writer.close()
        if not self._writer.rows:
            return None
        if self.kept:
            return self.work.keep_file(self.kind, self._path)
        return self.work.put_file(self.kind, self.task.key, self._path)


@final
class RowsCollector(TableCollector):
    """The rows themselves, for the next stage, without what passes added for themselves."""

    def chosen(self, table: pa.Table) -> pa.Table:
        """See `TableCollector.chosen`."""
        from datapipe.preprocess.passes import internal_columns

        return table.drop_columns([name for name in internal_columns() if name in table.column_names])


class ArrayCollector(Collector):
    """A collector that holds small arrays of each row until the end."""

    def __init__(self, kind: str, task: MapTask, work: WorkFolder, stack: contextlib.ExitStack) -> None:
        super().__init__(kind, task, work, stack)
        self.parts: list[tuple[Any, ...]] = []

    def add(self, table: pa.Table) -> None:
        """See `Collector.add`."""
        if table.num_rows:
            self.parts.append(self.arrays(table))

    @abc.abstractmethod
    def arrays(self, table: pa.Table) -> tuple[Any, ...]:
        """Numpy arrays of a batch, one element per row in each."""

    @abc.abstractmethod
    def encoded(self, *arrays: Any) -> bytes:
        """The file, from the arrays of all batches joined."""

    def finish(self) -> OutputFile | None:
        """See `Collector.finish`."""
        import numpy as np

        if not self.parts:
            return None
        joined = [np.concatenate(column) for column in zip(*self.parts, strict=True)]
        data = self.encoded(*joined)
        return (
            self.work.keep_bytes(self.kind, data) if self.kept else self.work.put_bytes(self.kind, self.task.key, data)
        )
