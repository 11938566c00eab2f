"""Key files: the keys of one split's rows, a record batch for each range of their hashes.

What enters: keys and the positions of their rows. What leaves: a rows file, or one range of it. Invariant: a range is a
function of the key and of the number of ranges alone, so that equal keys of both sides meet; keys that are null are in
none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from datapipe.preprocess.collectors import Collector
from datapipe.preprocess.rows_file import RowsWriter
from datapipe.preprocess.step_order import POSITION

if TYPE_CHECKING:
    import contextlib

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.preprocess.tasks import MapTask, OutputFile
    from datapipe.preprocess.work import WorkFolder

KEYS: Final = "joinkeys"


def ranges_of(keys: pa.Array, ranges: int) -> npt.NDArray[np.int64]:
    """The range of each key: XXH3 (64 bits) of its UTF-8 bytes mod `ranges`; int64[n]."""
    import numpy as np

    from datapipe.steps.join_known import hashes_of

    return (hashes_of(keys) % np.uint64(ranges)).astype(np.int64)


@final
class KeyCollector(Collector):
    """Keys and positions: some 20 bytes a row, and the key, are held."""

    def __init__(self, kind: str, task: MapTask, work: WorkFolder, stack: contextlib.ExitStack) -> None:
        super().__init__(kind, task, work, stack)
        settings = task.settings["join"]
        self._on: list[str] = settings["on"]
        self._ranges: int = settings["ranges"]
        self._parts: list[tuple[Any, Any]] = []

    def add(self, table: pa.Table) -> None:
        """See `Collector.add`."""
        from datapipe.steps.row_keys import key_texts

        keys = key_texts(table, self._on, "join: the table")
        there = keys.is_valid()
        positions = table.column(POSITION).combine_chunks()
        self._parts.append((keys.filter(there), positions.filter(there)))

    def finish(self) -> OutputFile | None:
        """See `Collector.finish`."""
        import numpy as np
        import pyarrow as pa

        if not self._parts:
            return None
        keys = pa.concat_arrays([keys for keys, _ in self._parts])
        positions = pa.concat_arrays(
            [each for _, part in self._parts for each in (part.chunks if isinstance(part, pa.ChunkedArray) else [part])]
        )
        ranges = ranges_of(keys, self._ranges)
        order = np.argsort(ranges, kind="stable")
        edges = np.searchsorted(ranges[order], np.arange(self._ranges + 1))
        whole = pa.table({"key": keys.take(pa.array(order)), "position": positions.take(pa.array(order))})
        with self.work.scratch_file(self.kind) as path:
            with RowsWriter(path) as writer:
                for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
                    writer.write(whole.slice(start, end - start), empty=True)
            return self.work.put_file(self.kind, self.task.key, path)
