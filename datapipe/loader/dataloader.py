"""`DataLoader`: what a user holds. It checks the arguments once, iterates, and knows where it stands.

What enters: a dataset and options. What leaves: batches; one `iter()` is one epoch. Invariant: the sequence of global
batches depends on the dataset and on seed, shuffle, lanes, window, tail and the global batch size alone; everything
else (threads, prefetch, budget, ranks) changes when a batch is ready, never what is in it.
"""

from __future__ import annotations

import os
import warnings
import weakref
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Literal, final

from datapipe.device import BufferPool
from datapipe.errors import ClosedError, ConfigError
from datapipe.loader.columns import plan_columns
from datapipe.loader.executor import ThreadedSource
from datapipe.loader.geometry import choose_geometry
from datapipe.loader.inline import InlineSource
from datapipe.loader.order import Order
from datapipe.loader.schedule import Schedule
from datapipe.loader.source import BatchSource, Counters
from datapipe.loader.stages import MASK, Stages
from datapipe.loader.state import Settings, make_state, read_state, saved_geometry
from datapipe.loader.topology import resolve_rank
from datapipe.loader.transform import Transform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from datapipe.dataset import Dataset

PREFETCH: Final = 4
MEMORY_BUDGET: Final = 512 << 20
_STRETCH_BYTES: Final = 8 << 20
"""Rows of strings and lists prepared together hold about this much."""
_STRETCH_ROWS: Final = 8192


@final
class DataLoader:
    """Batches of a dataset, in a reproducible global order, over any number of ranks and threads.

    Args:
        dataset: from `datapipe.open_dataset`.
        batch_size: rows per rank per step. The global batch is batch_size * world_size rows.
        shuffle: rows in a keyed random order, another one each epoch; else in file order.
        seed: of the shuffle.
        tail: what becomes of the rows after the last full global batch. "drop": left out this epoch. "pad": the batch is
            filled with rows from the epoch's start, and every batch has a boolean `mask` [B], False for those.
            "partial": a smaller batch, of which a rank's share may be empty. Every rank has the same number of steps.
        rank, world_size: None: from torch.distributed or RANK and WORLD_SIZE, else 0 of 1.
        lanes, window: shuffle geometry: blocks (row groups) are cut into `lanes` contiguous slices that are read side by
            side, and rows mix within `window` blocks of each. None: chosen from the dataset; recorded in the state.
        transform: table → table or batch → batch, see `datapipe.loader.transform`.
        collate: "torch" (dict of name → tensor), "numpy" (… → array), "arrow" (pyarrow.Table), or a callable that
            gets the dict of arrays and lists.
        dtypes: column → dtype, in place of the default (integers come as int64).
        num_threads: "auto" (one per CPU, 4 at most) or a number.
        prefetch: batches made ahead. None: 4. 0: no threads at all, everything happens when a batch is asked for: the
            fastest where batches are cheap and there is no other work to overlap with.
        memory_budget: bytes of decoded row groups and finished batches at most, but for what the next batch needs.
            None: 512 MiB.

    Integer columns come as int64 [B], fixed-size lists as [B, n], variable-length lists as zero-padded [B, max] and
    `<name>_lengths` [B], strings and binary as lists, dates and times as int64 counts of their unit. A dataset with
    `tokens` and `segment_ids` [B, T] also gives `position_ids` [B, T], which begin at 0 in every segment. Buffers are
    recycled once nobody holds them or a view of them: keep a batch as long as you like.

    Raises:
        ConfigError: an argument is wrong. SchemaError: a column's type cannot be delivered.
        LoaderError, StorageError: while iterating, with the shard and row group in the notes.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        tail: Literal["drop", "pad", "partial"] = "drop",
        rank: int | None = None,
        world_size: int | None = None,
        lanes: int | None = None,
        window: int | None = None,
        transform: Callable[..., Any] | None = None,
        collate: Literal["torch", "numpy", "arrow"] | Callable[[dict[str, Any]], Any] = "torch",
        dtypes: Mapping[str, Any] | None = None,
        num_threads: int | Literal["auto"] = "auto",
        prefetch: int | None = None,
        memory_budget: int | None = None,
    ) -> None:
        self.dataset = dataset
        self.batch_size = _whole("batch_size", batch_size, 1)
        self.seed = _whole("seed", seed, None)
        if not isinstance(shuffle, bool):
            raise ConfigError(f"shuffle={shuffle!r}", expected="True or False")
        if tail not in {"drop", "pad", "partial"}:
            raise ConfigError(f"tail={tail!r}", expected='"drop", "pad" or "partial"')
        self.rank, self.world_size = resolve_rank(rank, world_size)
        self.prefetch = PREFETCH if prefetch is None else _whole("prefetch", prefetch, 0)
        self.num_threads = _threads(num_threads)
        self.memory_budget = MEMORY_BUDGET if memory_budget is None else _whole("memory_budget", memory_budget, 1)
        self._transform = None if transform is None else Transform(transform)
        self._collate = _collate(collate)
        self._dtypes = dict(dtypes or {})
        self._plan_columns(tail)
        self._chosen = {"lanes": lanes, "window": window}
        self._shuffle = shuffle
        self._tail: Literal["drop", "pad", "partial"] = tail
        self._order = self._make_order(lanes, window)
        self._pool = BufferPool()
        self._counters = Counters()
        self._epoch = 0
        self._position = 0
        self._resumed = False
        self._closed = False
        self._iterator: weakref.ref[EpochIterator] | None = None
        if not self._order.steps and self._order.num_rows:
            warnings.warn(
                f"the dataset has {self._order.num_rows} rows, fewer than one global batch of {self.global_batch}: there"
                f' will be no batch. Use a smaller batch_size, or tail="pad" or "partial".',
                stacklevel=2,
            )

    def _plan_columns(self, tail: str) -> None:
        schema = self.dataset.schema
        arrow = self._collate is None or (self._transform is not None and self._transform.takes == "table")
        if arrow and self._collate is None and self._dtypes:
            raise ConfigError('dtypes with collate="arrow"', expected="the columns' own types", fix="leave dtypes out")
        self._columns = None if arrow else plan_columns(schema, self._dtypes)
        if tail == "pad" and MASK in schema.names:
            raise ConfigError(
                f'tail="pad" adds a column {MASK!r}, which the dataset has already',
                fix='rename it, open the dataset without it, or use tail="partial"',
            )

    def _make_order(self, lanes: int | None, window: int | None) -> Order:
        index = self.dataset.index
        geometry = choose_geometry(index.rows, index.bytes, shuffle=self._shuffle, lanes=lanes, window=window)
        return Order(
            fingerprint=self.dataset.fingerprint,
            seed=self.seed,
            rows=index.rows,
            geometry=geometry,
            global_batch=self.batch_size * self.world_size,
            tail=self._tail,
            shuffle=self._shuffle,
        )

    @property
    def global_batch(self) -> int:
        """Rows of a step over all ranks."""
        return self._order.global_batch

    @property
    def epoch(self) -> int:
        """The epoch in progress, or the one that the next `iter()` begins."""
        return self._epoch

    @property
    def settings(self) -> Settings:
        """All that the order depends on, the dataset apart."""
        geometry = self._order.geometry
        return Settings(
            global_batch=self.global_batch,
            seed=self.seed,
            shuffle=self._shuffle,
            lanes=geometry.lanes,
            window=geometry.window,
            tail=self._tail,
        )

    def __len__(self) -> int:
        """Batches of an epoch: the same on every rank."""
        return self._order.steps

    def __iter__(self) -> Iterator[Any]:
        """Begin an epoch: the next one, unless `set_epoch` or `load_state_dict` said which.

        An epoch of which a batch was delivered counts as begun, so breaking off and iterating again gives the next one.
        An earlier iterator of this loader ends.
        """
        if self._closed:
            raise ClosedError("this loader was closed", fix="make a new DataLoader")
        self._end_iteration()
        if self._position and not self._resumed:
            self._epoch, self._position = self._epoch + 1, 0
        self._resumed = False
        iterator = EpochIterator(self, self._source(self._epoch, self._position))
        self._iterator = weakref.ref(iterator)
        return iterator

    def _source(self, epoch: int, start: int) -> BatchSource:
        order, index = self._order, self.dataset.index
        rows = _STRETCH_ROWS
        if self._columns is None or any(column.kind.value != "fixed" for column in self._columns):
            rows = min(rows, max(1, _STRETCH_BYTES * order.num_rows // max(1, int(index.bytes.sum()))))
        schedule = Schedule(order.epoch(epoch), rank=self.rank, world_size=self.world_size, start=start, max_rows=rows)
        stages = Stages(
            self.dataset,
            columns=self._columns,
            dtypes=self._dtypes,
            pool=self._pool,
            transform=self._transform,
            collate=self._collate,
            padded=self._tail == "pad",
            seed=self.seed,
            epoch=epoch,
            steps=order.steps,
        )
        # Padding reads the epoch's first windows again: then an epoch may take more reads than there are blocks.
        first_item = epoch * len(index) * (2 if self._tail == "pad" else 1)
        if not self.prefetch:
            return InlineSource(schedule, stages, self._counters, first_item)
        return ThreadedSource(
            schedule,
            stages,
            self._counters,
            start=start,
            end=order.steps,
            threads=self.num_threads,
            prefetch=self.prefetch,
            budget=self.memory_budget,
            estimate=lambda number: int(index.bytes[number]),
            first_item=first_item,
            first_batch_item=epoch * order.steps,
        )

    def _end_iteration(self) -> None:
        iterator = self._iterator() if self._iterator is not None else None
        if iterator is not None:
            iterator.close()
        self._iterator = None

    def set_epoch(self, epoch: int) -> None:
        """Let the next `iter()` begin this epoch. After `load_state_dict`, naming the state's own epoch keeps its position."""
        epoch = _whole("epoch", epoch, 0)
        if epoch == self._epoch and self._resumed:
            return
        self._end_iteration()
        self._epoch, self._position, self._resumed = epoch, 0, False

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands, as plain JSON: batches delivered so far, whatever was made ahead. Any rank's will do."""
        epoch, position = self._epoch, self._position
        return make_state(self.dataset.fingerprint, self.settings, epoch, position)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state: the next `iter()` gives the batches that would have come next.

        The state may come from another rank, world size, thread count or machine.

        Raises:
            StateError: it does not fit; the message names each difference and its remedy.
        """
        lanes, window = saved_geometry(state)
        order = self._order
        if (lanes, window) != (order.geometry.lanes, order.geometry.window) and (
            self._chosen["lanes"] in {None, lanes} and self._chosen["window"] in {None, window}
        ):
            # Nobody asked for another geometry: the recorded one holds, whatever the defaults have become.
            order = self._make_order(lanes, window)
        before, self._order = self._order, order
        try:
            epoch, position = read_state(
                state, self.dataset.fingerprint, self.settings, world_size=self.world_size, steps=order.steps
            )
        except Exception:
            self._order = before
            raise
        self._end_iteration()
        if position == order.steps and position:
            epoch, position = epoch + 1, 0
        self._epoch, self._position, self._resumed = epoch, position, True

    def stats(self) -> dict[str, int]:
        """Counts since the loader was made, see `datapipe.loader.source.Counters`; for times, profile the run."""
        return {**asdict(self._counters), "epoch": self._epoch, "position": self._position}

    def close(self) -> None:
        """End the iteration in progress and its threads, from any state, within a second."""
        self._end_iteration()
        self._closed = True

    def __enter__(self) -> DataLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@final
class EpochIterator:
    """One epoch in progress. Counts what it delivers in its loader; ends its threads when it is dropped."""

    def __init__(self, loader: DataLoader, source: BatchSource) -> None:
        self._loader = loader
        self._source = source
        self._next = source.next
        self._counters = loader._counters  # noqa: SLF001  (one file, one owner)
        self._finalizer = weakref.finalize(self, source.abandon)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            batch = self._next()
        except BaseException:
            self._source.close()
            raise
        self._loader._position += 1  # noqa: SLF001
        self._counters.batches += 1
        return batch

    def close(self) -> None:
        """End it, and its threads."""
        self._source.close()


def _whole(name: str, value: Any, least: int | None) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or (least is not None and value < least):
        raise ConfigError(f"{name}={value!r}", expected="a whole number" + ("" if least is None else f" from {least}"))
    return int(value)


def _threads(value: int | str) -> int:
    if value == "auto":
        allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(4, allowed)
    return _whole("num_threads", value, 1)


def _collate(collate: Any) -> Callable[[dict[str, Any]], Any] | None:
    """The function that finishes a batch; None for Arrow tables."""
    if collate == "torch":
        try:
            from datapipe.loader.torch_collate import to_tensors
        except ImportError:
            raise ConfigError(
                'collate="torch", and torch is not installed',
                fix='pip install "datapipe-toolkit[train]", or collate="numpy" or "arrow"',
            ) from None
        return to_tensors
    if collate == "numpy":
        return dict
    if collate == "arrow":
        return None
    if not callable(collate):
        raise ConfigError(f"collate={collate!r}", expected='"torch", "numpy", "arrow" or a callable')
    return collate  # type: ignore[no-any-return]  # checked: a callable
