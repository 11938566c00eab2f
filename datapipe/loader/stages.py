"""The stages of the loader as plain functions of their input: load a block, prepare a stretch, assemble a batch.

What enters: block numbers, stretches, batch numbers. What leaves: blocks, prepared stretches, batches. Invariant: each
is free of shared mutable state, so that any thread may run any of them; who runs them, and when, is `inline` and
`executor`. With a recorder active each leaves spans; without one no clock is read.

    fetch → decode → prepare → gather → transform (tables, columns) → collate → transform (batches)
"""

from __future__ import annotations

import contextlib
import functools
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

import numpy as np

from datapipe import events
from datapipe.errors import ClosedError, DatapipeError
from datapipe.loader.blame import failing_row, name_batch, name_row
from datapipe.loader.block import Block
from datapipe.loader.filled import FilledBins
from datapipe.loader.gather import Prepared, batch_of_table
from datapipe.loader.transform import RowKeys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.dataset import Dataset
    from datapipe.dataset.fetch import Fetched
    from datapipe.loader.columns import ColumnOptions, ColumnPlan
    from datapipe.loader.finishing import Finishing, Job
    from datapipe.loader.mixture import Mixture
    from datapipe.loader.pack import Pack
    from datapipe.loader.padding import Padding
    from datapipe.loader.schedule import Stretch
    from datapipe.loader.substitutes import Substitutes
    from datapipe.loader.transport import Transport
    from datapipe.loader.workers import Workers

MASK = "mask"
"""The column that tells real rows from padding, with tail="pad"."""


@final
class Stages:
    """What the stages need to know, for one epoch.

    Args:
        columns: the plan of the dataset's columns; None: rows stay Arrow until a transform or the user has them.
        options: what was asked of columns, for those that a transform makes.
        transport: the buffers that batches are gathered into, or copied to where the user's code made them.
        finishing: what the user's code does to rows, and collate. workers: the processes that do it; None: this one.
        positions: dtype of position_ids, where rows are packed. pack: how they are packed here, if they are.
        padding: counts it, where rows are packed or bucketed.
        substitutes: stand in for row groups that cannot be read; None: those are errors.
        steps: batches per epoch, for the numbers in spans.
    """

    def __init__(
        self,
        dataset: Dataset | Mixture,
        *,
        columns: ColumnPlan | None,
        options: ColumnOptions,
        transport: Transport,
        finishing: Finishing,
        workers: Workers | None = None,
        padded: bool,
        pack: Pack | None = None,
        padding: Padding | None = None,
        positions: npt.DTypeLike = np.int64,
        substitutes: Substitutes | None = None,
        seed: int,
        epoch: int,
        steps: int,
    ) -> None:
        self._dataset = dataset
        self._columns = columns
        self._options = options
        self._transport = transport
        self._pool = transport.pool
        self._finishing = finishing
        self._workers = workers
        self._padded = padded
        self._pack = pack
        self._padding = padding
        self._positions = positions
        self._substitutes = substitutes
        self._seed = seed
        self._epoch = epoch
        self._first_item = epoch * steps
        self._planned: tuple[pa.Schema, ColumnPlan] | None = None

    def fetch(self, number: int, item: int, idle_since: int = 0) -> Fetched | None:
        """Fetch one block for another thread's `load`; None: there is nothing to fetch, as another stands in for it.

        Args: as of `load`.
        """
        if self._substitutes is not None and self._substitutes.holds(number):
            return None
        recorder = events.active()
        span = None if recorder is None else _Span(recorder, idle_since)
        fetched = self._dataset.fetch(number)
        if span is not None:
            span.end("fetch", item, nbytes=fetched.nbytes, flags=getattr(fetched, "flag", 0))
        return fetched

    def load(self, number: int, item: int, idle_since: int = 0, brought: Future[Fetched | None] | None = None) -> Block:
        """Fetch and decode one block.

        Args:
            item: its number in the spans. idle_since: when this thread began to wait for work (ns).
            brought: what `fetch` gave for it, or raised; None: it was not fetched.
        """
        recorder = events.active()
        span = None if recorder is None else _Span(recorder, idle_since)
        substitutes = self._substitutes
        if substitutes is not None and substitutes.holds(number):
            block = substitutes.stand_in(number, self._block)
            if span is not None:
                span.end("quarantine", item, nbytes=block.nbytes)
            return block
        try:
            fetched = None if brought is None else brought.result()
            if fetched is None:
                fetched = self._dataset.fetch(number)
                if span is not None:
                    span.end("fetch", item, nbytes=fetched.nbytes, flags=getattr(fetched, "flag", 0))
            table = fetched.decode()
            try:
                block = self._block(table)
            except DatapipeError as error:
                group = self._dataset.row_groups[number]
                error.add_note(f"shard {group.path}, row group {group.group}")
                raise
        except DatapipeError as error:
            if substitutes is None:
                raise
            block = substitutes.checked(number, error, self._block)
            if span is not None:
                span.end("quarantine", item, nbytes=block.nbytes)
            return block
        if span is not None:
            span.end("decode", item, nbytes=block.nbytes, cause=item)
        return block

    def _block(self, table: pa.Table) -> Block:
        return Block(table, self._columns)

    def prepare(
        self, stretch: Stretch, blocks: Sequence[Block], cause: int, idle_since: int = 0
    ) -> Prepared | FilledBins:
        """Find the rows of a stretch in its blocks (in the order of `stretch.blocks`)."""
        recorder = events.active()
        span = None if recorder is None else _Span(recorder, idle_since)
        prepared: Prepared | FilledBins
        if self._pack is None:
            prepared = Prepared(stretch, blocks, self._columns)
        else:
            assert self._columns is not None
            prepared = FilledBins(stretch, blocks, self._columns, self._pack)
        if span is not None:
            span.end("prepare", self._first_item + stretch.first, cause=cause)
        return prepared

    def assemble(
        self, prepared: Prepared | FilledBins, at: int, cause: int = -1, idle_since: int = 0, *, sized: bool = True
    ) -> tuple[Any, int]:
        """Batch `at` of a prepared stretch, and the bytes it holds (0 unless `sized`)."""
        recorder = events.active()
        span = None if recorder is None else _Span(recorder, idle_since)
        sized = sized or span is not None
        stretch, finishing = prepared.stretch, self._finishing
        item = self._first_item + stretch.first + at
        value: Any
        if self._columns is None:
            assert isinstance(prepared, Prepared)
            value = prepared.table(at)
            if not value.num_columns:
                value = self._dataset.schema.empty_table()
            size = value.nbytes if sized else 0
        else:
            value = prepared.batch(at, self._pool, self._positions)
            if self._padding is not None:
                self._padding.count(prepared, at, value)
            size = _size(value) if sized else 0
        if span is not None:
            span.end("gather", item, nbytes=size, cause=cause)
        if finishing.of_tables:
            value, _ = self._run("table", value, stretch, at)
            if span is not None:
                span.end("transform", item, nbytes=value.nbytes, cause=item)
        if finishing.collate is not None:
            if self._columns is None:
                value = batch_of_table(value, self._plan(value.schema), self._pool)
                size = _size(value) if sized else 0
            if self._padded:
                value[MASK] = np.arange(stretch.rows(at)) < stretch.real[at]
        elif self._padded:
            value = value.append_column(MASK, [np.arange(stretch.rows(at)) < stretch.real[at]])
        if finishing.of_batches and self._workers is not None:
            value, size = self._run("both", value, stretch, at)
            value = self._transport.stage(value, item)
            if span is not None:
                span.end("transform", item, nbytes=size, cause=item)
            return value, size
        if finishing.of_columns:
            value, _ = self._run("columns", value, stretch, at)
            size = _size(value) if sized else 0
            if span is not None:
                span.end("transform", item, nbytes=size, cause=item)
        if finishing.own_collate:
            value, _ = self._run("collate", value, stretch, at)
            if not finishing.transforms_batches:
                value = self._transport.stage(value, item)
        elif finishing.collate is not None:
            value = finishing.collate(value)
        if span is not None:
            span.end("collate", item, nbytes=size, cause=item)
        if finishing.transforms_batches:
            value = self._transport.stage(self._run("batch", value, stretch, at)[0], item)
            if span is not None:
                span.end("transform", item, nbytes=size, cause=item)
        return value, size

    def _run(self, job: Job, value: Any, stretch: Stretch, at: int) -> tuple[Any, int]:
        """What the user's code makes of it, and the bytes of that where it came from another process."""
        keys = self._keys(stretch, at)
        if job == "columns":
            keys = replace(keys, empty=self._pool.empty)
        run = self._finishing.run if self._workers is None else self._workers.run
        try:
            return run(job, value, keys)
        except ClosedError:
            raise
        except Exception as error:
            blocks, _ = self._places(stretch, at)
            row = failing_row(value, keys, error, functools.partial(run, "table")) if job == "table" else None
            if row is None:
                name_batch(error, stretch.first + at, blocks, self._dataset.row_groups)
            else:
                name_row(error, int(keys.rows[row]), self._dataset.row_groups[int(blocks[row])])
            raise

    def _places(self, stretch: Stretch, at: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The block of each row of a batch, and its place there."""
        part = slice(stretch.cuts[at], stretch.cuts[at + 1])
        blocks, rows = stretch.blocks[stretch.slot[part]], stretch.row[part]
        return (blocks, rows) if self._substitutes is None else self._substitutes.real(blocks, rows)

    def _keys(self, stretch: Stretch, at: int) -> RowKeys:
        rows = self._dataset.row_numbers(*self._places(stretch, at))
        return RowKeys(seed=self._seed, epoch=self._epoch, rows=rows)

    def _plan(self, schema: pa.Schema) -> ColumnPlan:
        """The plan of a transformed table: its columns are known when the first one comes out."""
        planned = self._planned
        if planned is None or not planned[0].equals(schema):
            planned = self._planned = (schema, self._options.of(schema).plan(schema))
        return planned[1]


def _size(batch: dict[str, Any]) -> int:
    """Bytes of a batch: exact for arrays; a Python string or bytes object as its length and its header."""
    total = 0
    for value in batch.values():
        if isinstance(value, np.ndarray):
            total += value.nbytes
        elif isinstance(value, list):
            total += 50 * len(value)
            with contextlib.suppress(TypeError):  # Python objects that have no length
                total += sum(map(len, filter(None, value)))
    return total


@final
class _Span:
    """Consecutive spans of one thread: each begins where the one before it ended."""

    __slots__ = ("_cpu", "_get", "_recorder", "_ring", "_start")

    def __init__(self, recorder: events.Recorder, idle_since: int) -> None:
        self._recorder = recorder
        self._ring = recorder.ring()
        self._cpu = time.thread_time_ns()
        self._start = time.perf_counter_ns()
        self._get = min(idle_since, self._start) or self._start

    def end(self, stage: str, item: int, *, nbytes: int = 0, cause: int = -1, flags: int = 0) -> None:
        now, cpu = time.perf_counter_ns(), time.thread_time_ns()
        self._ring.write(
            self._recorder.stage(stage), item, self._get, self._start, now, now, nbytes, cpu - self._cpu, cause, flags
        )
        self._get = self._start = now
        self._cpu = cpu
