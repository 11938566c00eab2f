"""The bound for Parquet: row groups decoded ahead by threads, delivered in file order, and nothing else done.

What enters: files and columns. What leaves: tables, one a row group. Invariant: each row group once, in order; as many
decode at once as there are threads, two more wait.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa


def scan_groups(paths: Sequence[Path], columns: list[str], threads: int) -> Iterator[pa.Table]:
    """All row groups, each decoded on one of the threads."""
    metadata = {path: pq.read_metadata(path) for path in paths}
    work = [(path, group) for path in paths for group in range(metadata[path].num_row_groups)]
    slots: list[queue.Queue[Any]] = [queue.Queue(1) for _ in work]
    room = threading.Semaphore(threads + 2)
    todo = iter(range(len(work)))
    lock = threading.Lock()
    over = False

    def decode() -> None:
        while True:
            room.acquire()
            with lock:
                at = None if over else next(todo, None)
            if at is None:
                room.release()
                return
            path, group = work[at]
            file = pq.ParquetFile(path, metadata=metadata[path], memory_map=True)
            slots[at].put(file.read_row_group(group, columns=columns, use_threads=False))

    started = [threading.Thread(target=decode) for _ in range(threads)]
    for thread in started:
        thread.start()
    try:
        for slot in slots:
            yield slot.get().combine_chunks()
            room.release()
    finally:
        over = True
        for _ in started:
            room.release()
        for thread in started:
            thread.join()
