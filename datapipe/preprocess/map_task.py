"""One map task: the rows of a split, read, run through steps, written.

What enters: a `MapTask`. What leaves: its record, after its files. Invariant: the files depend on the rows, the steps
and the seed alone; memory is bounded by a few batches and, where documents are packed, by `PACK_BYTES` of tokens.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import tempfile
import time
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import CorpusError
from datapipe.preprocess.batch_room import cut, rows_at_once
from datapipe.preprocess.delivery import probe_of
from datapipe.preprocess.limits import announced, at
from datapipe.preprocess.passes import collector_of
from datapipe.preprocess.poison import spared
from datapipe.preprocess.rows_file import conform, read_rows
from datapipe.preprocess.signals_file import SIGNALS, SignalsFile
from datapipe.preprocess.stage import ROWS, SHARD
from datapipe.preprocess.step_order import POSITION, internal
from datapipe.preprocess.suppression import REASON, read_suppression
from datapipe.preprocess.tally import Tally
from datapipe.preprocess.tasks import PASSING, OutputFile, TaskRecord
from datapipe.preprocess.warnings_of_run import NAMED
from datapipe.preprocess.work import WorkFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.corpus import Batch, Quarantined
    from datapipe.preprocess.stage import Removal
    from datapipe.preprocess.tasks import DropList, MapTask
    from datapipe.steps import BoundStep
    from datapipe.storage import Store

PACK_BYTES: Final = 64 << 20
"""Bytes of documents packed together: a split of ordinary size is packed as a whole, so that only its last row is
padded."""


def run_map(task: MapTask) -> TaskRecord:
    """Do the task; its files are stored, its record is returned (and not yet stored)."""
    started = time.perf_counter()
    store = task.output.open()
    with contextlib.ExitStack() as stack:
        run = _Run(task, store, stack)
        fields = run.shard() if SHARD in task.writes else run.rows()
        if run.signals is not None and (file := run.signals.finish()) is not None:
            fields["files"] = {**fields.get("files", {}), SIGNALS: file}
    return TaskRecord(
        key=task.key,
        stage=task.name,
        split=task.split,
        seconds=time.perf_counter() - started,
        found=run.found(),
        **fields,
        **run.tally.fields(),
    )


@final
class _Run:
    """The state of one task while it runs."""

    def __init__(self, task: MapTask, store: Store, stack: contextlib.ExitStack) -> None:
        from datapipe.steps import Keys, bind, sieve_of

        self.task = task
        self.store = store
        self.work = WorkFolder(store)
        self.tally = Tally(task.seed, withheld=task.output.sealing is not None)
        self.suppression = read_suppression(store) if task.erased else None
        self.sources: list[list[Any]] = []
        self.columns: set[str] = set()  # of `input.columns`, those that had a value
        self.keys = Keys(seed=task.seed)
        steps = [bind(name, options) for name, options in self._steps(stack)]
        self.sieves = [] if task.moved else [each for step in steps if (each := sieve_of(step)) is not None]
        if task.only is not None:
            steps, self.sieves = [[announced(step) for step in each] for each in (steps, self.sieves)]
        self.by_row: list[BoundStep] = [step for step in steps if step.spec.kind != "reshape"]
        self.reshape: list[BoundStep] = steps[len(self.by_row) :]
        # A stage that only collects runs the rows for what a pass needs; their fates are told where they are handed on.
        hands_on = (ROWS in task.writes or SHARD in task.writes) and not task.moved
        self.signals = None
        if hands_on:
            self.signals = SignalsFile(
                self.work, stack, corpus=task.pieces is not None, withheld=task.output.sealing is not None
            )
        self.collectors = [collector_of(kind)(kind, task, self.work, stack) for kind in task.writes if kind != SHARD]

    def found(self) -> dict[str, Any]:
        """What the record keeps beside counts and files."""
        poison = [[row.row_id, row.step, row.reason, row.detail] for row in self.task.skip]
        told = {"sources": self.sources, "poison": poison, NAMED: sorted(self.columns)}
        return {
            name: value for name, value in told.items() if value or (name == NAMED and self.task.pieces is not None)
        }

    def _steps(self, stack: contextlib.ExitStack) -> Iterator[tuple[str, dict[str, Any]]]:
        """Names and options, with the paths that files have on this machine."""
        for place, (name, options) in enumerate(self.task.steps):
            here: dict[str, Any] = {}
            for step, option, paths in self.task.files:
                if step == place:
                    local = [self._local(path, stack) for path in paths]
                    here[option] = local[0] if isinstance(options[option], str) else local
            yield name, {**options, **here}

    def _local(self, path: str, stack: contextlib.ExitStack) -> str:
        """A file of the output store, on this machine."""
        local = self.store.local_path(path)
        if local is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="datapipe-", dir=self.work.scratch()))
            local = os.path.join(folder, os.path.basename(path))  # noqa: PTH118, PTH119
            with open(local, "wb") as file:  # noqa: PTH123
                file.write(self.store.read(path))
        return local

    def rows(self) -> dict[str, Any]:
        """A stage that hands rows, hashes or a sample to later ones."""
        for table in self._documents():
            self.tally.written(table)
            for collector in self.collectors:
                if not collector.as_read:
                    collector.add(table)
        finished = [(collector.kind, collector.finish()) for collector in self.collectors]
        return {"files": {kind: file for kind, file in finished if file is not None}}

    def shard(self) -> dict[str, Any]:
        """The last stage: rows of the dataset."""
        from datapipe.dataset import write_shard
        from datapipe.dataset.manifest import encode_schema

        settings = self.task.shard
        assert settings is not None
        tables = self._finished()
        first = next(tables, None)
        if first is None:
            return {}
        schema = first.schema.remove_metadata()
        entry = write_shard(
            self.store,
            self.task.stem,
            (conform(table, schema) for table in itertools.chain([first], tables)),
            schema=schema,
            row_group_rows=settings.row_group_rows,
            format=settings.format,
            compression=settings.compression,
            scratch=self.work.scratch(),
            sealing=None if self.task.output.sealing is None else self.task.output.sealing.shard(),
        )
        if entry is None:
            return {}
        # Only now is it known how many documents the rows hold.
        entry = entry.model_copy(update={"documents": self.tally.rows_out})
        file = OutputFile(path=entry.path, bytes=entry.bytes, checksum=entry.checksum.value)
        return {
            "files": {"shard": file},
            "shard": entry.model_dump(mode="json"),
            "schema": encode_schema(schema),
        }

    def _finished(self) -> Iterator[pa.Table]:
        """Rows as the shard holds them: packed where the recipe packs, without the columns that only stages need."""
        import pyarrow as pa

        from datapipe.steps import run_steps
        from datapipe.steps.pack import packed_counts

        held: list[pa.Table] = []
        size = 0

        def reshaped() -> pa.Table:
            documents = pa.concat_tables(held).combine_chunks()
            ran = run_steps(documents, self.reshape, self.keys)
            self.tally.costs(ran.per_step)
            # Of rows that were moved, a step may have changed one since the sieve saw it.
            self.tally.marked(ran.marked, documents, ran.heads)
            self.tally.rows_out -= ran.marked.num_rows
            if self.reshape[0].name == "pack":
                self.tally.counted(packed_counts(documents, ran.table))
            held.clear()
            return self._selected(ran.table)

        for table in self._documents():
            self.tally.written(table)
            if not self.reshape:
                yield self._selected(table)
                continue
            held.append(conform(table, held[0].schema) if held else table)
            size += table.nbytes
            if size >= PACK_BYTES:
                yield reshaped()
                size = 0
        if held:
            yield reshaped()

    def _selected(self, table: pa.Table) -> pa.Table:
        assert self.task.shard is not None
        wanted = self.task.shard.columns
        if wanted is None:
            return table.drop_columns([c for c in internal() if c in table.column_names])
        return table.select(list(wanted))

    def _documents(self) -> Iterator[pa.Table]:
        """Batches after the row-by-row steps, none of them empty."""
        from datapipe.steps import run_steps

        end = 0
        for read in cut(self._corpus() if self.task.pieces is not None else self._rows(), rows_at_once(self.by_row)):
            # Numbered as they come: rows that were moved have the positions that they had elsewhere.
            start, end = end, end + read.num_rows
            if self.task.only is not None and start >= self.task.only[1]:
                break
            table = self._spared(read, start)
            if not table.num_rows:
                continue
            at("rows", start, end, size=table.nbytes, name=str(table["row_id"][0]))
            for collector in self.collectors:
                if collector.as_read:
                    collector.add(table)
            steps = [*self.by_row, *self.sieves]
            ran = run_steps(table, steps, self.keys, side_by_side=self.task.signals == "all")
            self.tally.costs(ran.per_step[: len(self.by_row)])
            for cost in ran.per_step[len(self.by_row) :]:
                self.tally.costs([dataclasses.replace(cost, name=f"{cost.name}: sieve")])
            self.tally.marked(ran.marked, table, ran.heads)
            self.tally.counted(ran.counters)
            if self.signals is not None:
                self.signals.ran(ran, table)
            if ran.table.num_rows:
                yield ran.table
        at("end")

    def _spared(self, table: pa.Table, start: int) -> pa.Table:
        """The rows of a batch that are run: all but poison; of a trial, those that it is about."""
        if not self.task.skip and self.task.only is None:
            return table
        left, marks, gone = spared(table, start, self.task.skip, self.task.only)
        if marks.num_rows:
            self.tally.marked(marks, gone)
            if self.signals is not None:
                self.signals.poisoned(marks, gone)
        return left

    def _corpus(self) -> Iterator[pa.Table]:
        """Batches of the corpus, each row with its position in the split."""
        import pyarrow as pa

        from datapipe.corpus import joined

        position = 0
        # A file of one document is a batch of one row: joined, the fixed cost of a step is paid once for many.
        for batch in joined(self._pieces()):
            n = batch.table.num_rows
            if n:
                table = batch.table.append_column(POSITION, pa.array(range(position, position + n), pa.uint32()))
                position += n
                yield self._left(table)

    def _left(self, table: pa.Table) -> pa.Table:
        """The rows of a batch that have not been erased; of the others only their number is told."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.suppression is None:
            return table
        gone = self.suppression.mask(table.column("row_id").cast(pa.string()))
        if not pc.any(gone).as_py():
            return table
        erased = table.filter(gone)
        self.tally.erased(erased.num_rows)
        if self.signals is not None:
            self.signals.erased(erased.column(POSITION))
        return table.filter(pc.invert(gone))

    def _pieces(self) -> Iterator[Batch]:
        """What is read of the corpus, piece by piece, tallied."""
        from datapipe.corpus import Quarantined, read_piece
        from datapipe.storage import open_store

        task = self.task
        assert task.pieces is not None
        assert task.input is not None
        opened: tuple[str, Store] | None = None
        options = task.input.read_options()
        poison = {row.piece: row for row in task.skip}
        for number, piece in enumerate(task.pieces.pieces):
            place = f"{piece.file.name}:{piece.start}"
            if number in poison:
                self._unreadable(
                    [Quarantined(row_id=place, reason=poison[number].reason, detail=poison[number].detail)]
                )
                continue
            # One store for all files of a root: opening it took as long as reading a small file.
            if opened is None or opened[0] != piece.file.root:
                opened = (piece.file.root, open_store(piece.file.root, storage_options=task.input_options))
            store = opened[1]
            batches = read_piece(piece, options=options, storage_options=task.input_options, store=store)
            there = True
            while True:
                at("piece", number, name=place)
                cpu = time.process_time()
                batch = next(batches, None)
                if batch is None:
                    break
                self._unreadable(batch.quarantined)
                self.columns.update(
                    name
                    for name in options.columns
                    if name not in self.columns
                    and name in batch.table.column_names
                    and batch.table.column(name).null_count < batch.table.num_rows
                )
                there = there and not any(row.reason in PASSING for row in batch.quarantined)
                n = batch.table.num_rows
                self.tally.rows_in += n
                self.tally.cost("read", n + len(batch.quarantined), n, batch.table.nbytes, time.process_time() - cpu)
                yield batch
            if there:
                self._check_unchanged(piece.file, store)
            if there and piece.start == 0:
                probe = probe_of(piece.file, task.input_options, store)
                self.sources.append([piece.file.name, piece.file.size, probe])

    def _unreadable(self, rows: Sequence[Quarantined]) -> None:
        if self.suppression is not None:
            nameless = {"row_id": "", "reason": REASON, "detail": "", "excerpt": ""}
            rows = [dataclasses.replace(row, **nameless) if row.row_id in self.suppression else row for row in rows]
        self.tally.unreadable(rows)
        if self.signals is not None:
            self.signals.unreadable(rows)

    @staticmethod
    def _check_unchanged(file: Any, store: Store) -> None:
        """A file that changed while it was read would be recorded under the digest of what it was."""
        if not store.exists(file.path) or store.info(file.path).etag != file.etag:
            raise CorpusError(
                f"{file.name} changed while it was read",
                expected="input that stays as it is during a run",
                fix="run the same command again once nothing writes to it",
            )

    def _rows(self) -> Iterator[pa.Table]:
        """Batches of an earlier stage, less the rows that drop lists name."""
        import numpy as np
        import pyarrow as pa

        assert self.task.rows is not None
        lists = [(drops.removal, *read_drops(self.store, drops)) for drops in self.task.drops]
        for table in read_rows(self.store, self.task.rows):
            self.tally.rows_in += table.num_rows
            positions = table.column(POSITION).to_numpy()
            stays = np.ones(table.num_rows, bool)
            lost: list[tuple[pa.Table, Removal, npt.NDArray[np.int64]]] = []
            for removal, dropped, survivors in lists:
                gone = stays & np.isin(positions, dropped)
                if gone.any():
                    stays &= ~gone
                    places = np.searchsorted(dropped, positions[gone])
                    details = [f"{split}:{position}" for split, position in survivors[places].tolist()]
                    removed = table.filter(pa.array(gone))
                    self.tally.removed(removed, removal, details)
                    lost.append((removed, removal, survivors[places]))
            if self.signals is not None:
                self.signals.removed(lost)
            if not stays.all():
                table = table.filter(pa.array(stays))  # noqa: PLW2901  (the rows that are left of it)
            if table.num_rows:
                yield table


def read_drops(store: Store, drops: DropList) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """One split's part of a drop list.

    Returns:
        Positions uint32[n], ascending, and (split, position) of the survivors int64[n, 2].
    """
    import numpy as np

    table = next(read_rows(store, drops.path, first=drops.batch))
    survivors = np.column_stack(
        [table.column(name).to_numpy().astype(np.int64) for name in ("survivor_split", "survivor_position")]
    )
    return table.column("position").to_numpy(), survivors
