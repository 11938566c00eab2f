"""Which rows of each block pass a filter: computed once, from the filter's columns alone.

What enters: a filter, the index of all rows, and the shards (of the filter's columns). What leaves: a `Selection`, and
the index of the rows that pass. Invariant: blocks that statistics settle are not read; memory is at most rows/8 bytes:
a bit per row, or the numbers of the rows where they are fewer than one in 32.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Final, final

import numpy as np
import pyarrow as pa

from datapipe import events
from datapipe.dataset.filters import ALL, NONE, SOME
from datapipe.dataset.taking import has_views, take_rows
from datapipe.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    from datapipe.dataset.fetch import Fetched, Shards
    from datapipe.dataset.filters import Filter
    from datapipe.dataset.index import DatasetIndex

    Ints = npt.NDArray[np.int64]
    Kept = npt.NDArray[np.uint8] | npt.NDArray[np.uint32] | None

_REMOTE_THREADS: Final = 16
"""Each waits for its own row group's few columns: a request or two of some milliseconds."""
_CHUNKS: Final = 8
"""Pieces of work per thread: enough that the last to end does not leave the others idle."""


@final
class Selection:
    """The rows that pass, per block; immutable, picklable.

    Attributes:
        counts: int64[n]: rows of each block that pass.
    """

    def __init__(self, rows: Ints, counts: Ints, kept: Sequence[Kept]) -> None:
        self._rows = rows
        self.counts = counts
        self._kept = kept

    @property
    def nbytes(self) -> int:
        """Memory that the selection takes."""
        return self.counts.nbytes + sum(kept.nbytes for kept in self._kept if kept is not None)

    def rows(self, block: int) -> Ints:
        """The numbers within the block of the rows that pass, ascending: int64[counts[block]]."""
        kept, total = self._kept[block], int(self._rows[block])
        if self.counts[block] == total:
            return np.arange(total)
        if kept is None:
            return np.empty(0, np.int64)
        if kept.dtype == np.uint32:
            return kept.astype(np.int64)
        return np.flatnonzero(np.unpackbits(kept.view(np.uint8), count=total, bitorder="little"))

    def apply(self, block: int, table: pa.Table) -> pa.Table:
        """The rows of a block's table that pass, each column one chunk."""
        kept, total = self._kept[block], int(self._rows[block])
        if self.counts[block] == total:
            return table
        if kept is None:
            return table.slice(0, 0)
        if kept.dtype == np.uint32:
            return take_rows(table, pa.array(kept)).combine_chunks()
        if has_views(table):
            return take_rows(table, pa.array(self.rows(block))).combine_chunks()
        # A copy of those rows, that the rest of the block be let go.
        mask = pa.Array.from_buffers(pa.bool_(), total, [None, pa.py_buffer(kept)])
        return table.filter(mask).combine_chunks()


@final
class SelectedFetched:
    """A row group's bytes, of whose rows only those that pass will be given."""

    def __init__(self, fetched: Fetched, selection: Selection, block: int) -> None:
        self._fetched = fetched
        self._selection = selection
        self._block = block
        self.nbytes = fetched.nbytes
        self.flag = fetched.flag

    def decode(self) -> pa.Table:
        """The rows that pass, each column one chunk."""
        table = self._fetched.decode()
        with events.timed("filter"):
            return self._selection.apply(self._block, table)


def select(filter_: Filter, index: DatasetIndex, shards: Shards, schema: pa.Schema, *, remote: bool) -> Selection:
    """Evaluate a filter over every block that statistics do not settle.

    Raises:
        StorageError: a row group cannot be read. DatasetError: the filter cannot be computed for one.
    """
    threads = _REMOTE_THREADS if remote else _cpus()
    verdict = np.full(len(index), SOME, np.int8)
    known = [f for f in np.unique(index.shard) if index.formats[f] == "parquet"]
    with ThreadPoolExecutor(threads) as pool:
        try:
            for blocks, found in pool.map(lambda shard: _judge(filter_, index, shards, schema, int(shard)), known):
                verdict[blocks] = found
            counts = np.where(verdict == ALL, index.rows, 0)
            kept: list[Kept] = [None] * len(index)
            open_ = np.flatnonzero((verdict == SOME) & (index.rows > 0))
            chunks = np.array_split(open_, max(1, min(len(open_), threads * _CHUNKS)))
            for found_ in pool.map(lambda chunk: [_read(filter_, index, shards, int(b)) for b in chunk], chunks):
                for block, count, rows in found_:
                    counts[block], kept[block] = count, rows
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return Selection(index.rows, counts, kept)


def _judge(
    filter_: Filter, index: DatasetIndex, shards: Shards, schema: pa.Schema, shard: int
) -> tuple[Ints, npt.NDArray[np.int8]]:
    blocks = np.flatnonzero(index.shard == shard)
    bounds = shards.bounds(shard, index.group[blocks].tolist(), index.rows[blocks].tolist())
    verdict = filter_.judge(bounds, schema)
    verdict[index.rows[blocks] == 0] = NONE
    return blocks, verdict


def _read(filter_: Filter, index: DatasetIndex, shards: Shards, block: int) -> tuple[int, int, Kept]:
    total = int(index.rows[block])
    table = shards.fetch(int(index.shard[block]), int(index.group[block]), total).decode()
    try:
        mask = filter_.mask(table)
    except pa.ArrowException as error:
        where = f"{index.paths[index.shard[block]]}: row group {index.group[block]}"
        raise DatasetError(
            f"{where}: the filter cannot be computed: {error}",
            expected="values that the filter's arithmetic and types can hold",
        ) from None
    passes = mask.to_numpy(zero_copy_only=False)
    count = int(np.count_nonzero(passes))
    if count in {0, total}:
        return block, count, None
    if count * 32 < total:
        return block, count, np.flatnonzero(passes).astype(np.uint32)
    return block, count, np.packbits(passes, bitorder="little")


def selected_index(index: DatasetIndex, selection: Selection) -> DatasetIndex:
    """The index of the rows that pass: the same blocks, with fewer rows; bytes in proportion, tokens not known."""
    share = selection.counts / np.maximum(index.rows, 1)
    return replace(
        index,
        rows=selection.counts,
        bytes=np.ceil(index.bytes * share).astype(np.int64),
        tokens=None,
        first=np.concatenate([np.zeros(1, np.int64), np.cumsum(selection.counts)]),
    )


def base_numbers(index: DatasetIndex, rows_of: Callable[[int], Iterable[int]], blocks: Ints, rows: Ints) -> Ints:
    """The numbers, in the whole dataset, of rows given by block and place among those of it that pass."""
    numbers = index.first[blocks]
    for block in np.unique(blocks).tolist():
        at = np.flatnonzero(blocks == block)
        numbers[at] += np.asarray(rows_of(block))[rows[at]]
    return numbers


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
