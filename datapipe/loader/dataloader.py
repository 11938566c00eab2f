"""`DataLoader`: what a user holds. It checks the arguments once, iterates, and knows where it stands.

What enters: a dataset and options. What leaves: batches; one `iter()` is one epoch. Invariant: the sequence of global
batches depends on the dataset and on seed, shuffle, lanes, window, tail and the global batch size alone; everything
else (threads, prefetch, budget, ranks) changes when a batch is ready, never what is in it.
"""

from __future__ import annotations

import weakref
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, final

from datapipe.dataset.cached import cache_counts
from datapipe.errors import ClosedError
from datapipe.loader.arguments import TAILS, collate_function, one_of, opened, warn_of_no_batch, whole_number
from datapipe.loader.autotune import make_tuner
from datapipe.loader.columns import ColumnOptions
from datapipe.loader.delivered import last_rows
from datapipe.loader.finishing import Finishing
from datapipe.loader.fitted import Fitted, Fitting
from datapipe.loader.following import following_for, named_in, snapshot_of
from datapipe.loader.foreign_arguments import translated
from datapipe.loader.iterator import EpochIterator
from datapipe.loader.quarantine import checked_quarantine
from datapipe.loader.source import Counters
from datapipe.loader.state import Settings, geometry_for, saved_batch
from datapipe.loader.supply import numbered
from datapipe.loader.topology import resolve_rank, warn_of_repeats
from datapipe.loader.transform import Transform
from datapipe.loader.transport import Transport
from datapipe.loader.workers import hire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from datapipe.dataset import Dataset
    from datapipe.device.feeder import Feeder
    from datapipe.loader.bucket import Bucket
    from datapipe.loader.iterator import Progress
    from datapipe.loader.mixture import Mixture
    from datapipe.loader.pack import Pack
    from datapipe.loader.sequence import EpochSequence, Sequence
    from datapipe.loader.source import BatchSource


@final
class DataLoader:
    """Batches of a dataset, in a reproducible global order, over any number of ranks and threads.

    Args:
        dataset: from `datapipe.open_dataset`, or several in one from `datapipe.mix`.
        batch_size: rows per rank per step. The global batch is batch_size * world_size rows.
        shuffle: rows in a keyed random order, another one each epoch; else in file order.
        seed: of the shuffle.
        tail: what becomes of the rows after the last full global batch. "drop": left out this epoch. "pad": the batch
            is filled with rows from the epoch's start, and every batch has a boolean `mask` [B], False for those.
            "partial": a smaller batch, of which a rank's share may be empty. Every rank has the same number of steps.
        rank, world_size: None: from torch.distributed or RANK and WORLD_SIZE, else 0 of 1.
        lanes, window: shuffle geometry: blocks (row groups) are cut into `lanes` contiguous slices that are read side
            by side, and rows mix within `window` blocks of each. None: chosen from the dataset; kept in the state.
        pack: a `datapipe.Pack`: documents are packed into rows of one length, and batch_size counts those.
        bucket: a `datapipe.Bucket`: batches of rows of near lengths.
        transform: of tables, of columns (`datapipe.Images`) or of batches, see `datapipe.loader.transform`.
        collate: "torch" (dict of name → tensor), "numpy" (… → array), "arrow" (pyarrow.Table), a callable that gets
            the dict of arrays and lists, or a rule for each column, see `datapipe.loader.column_collate`.
        dtypes: column → dtype, in place of the default (integers come as int64). A value beyond it is a LoaderError.
            "stored" (for a column, or for all): integers as they are stored. For decimals "float64" or "unscaled"
            (int64, counting 10^-scale). A list of all values of a column: their places in it. "object": Python objects.
        nulls: what a missing number becomes. "refuse": a LoaderError. "mask": 0, and a boolean `<name>_valid` beside
            it. "nan" (floats), a number, or column → one of these; see `datapipe.loader.null_policy`.
        num_threads: "auto" (one per CPU, 4 at most) or a number. A remote dataset has 16 more, which only wait for it.
        prefetch: batches made ahead (those that take less time to make than to hand over between threads, 0.2 ms, are
            made when asked for, and only read ahead). None: 4. 0: no threads at all.
        memory_budget: bytes (or "1 GB") of decoded row groups and finished batches at most, but for what the next
            batch needs. None: 512 MiB, or a quarter of the free memory if that is less. Towards an epoch's end the next
            one is read ahead within it; it is let go when this loader is closed or goes elsewhere.
        autotune: those of num_threads, prefetch and memory_budget that are left at their defaults follow what the
            loader measures, up and down, within the CPUs and the memory there are: see `stats`. It changes when a batch
            is ready, never what is in it. The logger `datapipe.loader.autotune` tells each decision.
        device: "cpu", "cuda", "xpu" or "mps": where the tensors shall be. The next batch is copied beside the compute
            (not on MPS) from page-locked buffers, numbers narrow as stored and cast there. None: left on the host.
        pin_memory: page-lock those buffers, within memory_budget; "auto": where the device copies by streams.
        device_prefetch, device_budget: batches (and bytes, "1 GB") copied there beyond the one asked for, once made.
        workers: "process": transform and own collate run in `num_threads` processes, see `datapipe.loader.workers`.
        on_error: "quarantine": a row group that is found damaged twice (truncated, a wrong checksum, a null where none
            may be) is replaced by rows of another, see `datapipe.loader.substitutes`; log, `stats` and state tell. Of
            a lane 5% may be bad, and lengths and filter columns must be readable. What may pass (the network) raises.

    Integer columns come as int64 [B], fixed-size lists as [B, n], variable-length lists as zero-padded [B, max] and
    `<name>_lengths` [B], strings and binary as lists, dates and times as int64 counts of their unit, a struct `a` with
    a field `b` as `a.b`; see `datapipe.loader.columns`. A dataset with `tokens` and `segment_ids` [B, T] also gives
    `position_ids` [B, T], which begin at 0 in every segment. Buffers are recycled once nobody holds them or a view of
    them: keep a batch as long as you like. Small columns of a shuffled table share a buffer, row by row: each is a view
    with a stride.

    Raises:
        ConfigError: an argument is wrong. SchemaError: a column's type cannot be delivered.
        LoaderError, StorageError: while iterating, with the shard and row group in the notes.
    """

    @translated
    def __init__(
        self,
        dataset: Dataset | Mixture,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        tail: Literal["drop", "pad", "partial"] = "drop",
        rank: int | None = None,
        world_size: int | None = None,
        lanes: int | None = None,
        window: int | None = None,
        pack: Pack | None = None,
        bucket: Bucket | None = None,
        transform: Callable[..., Any] | None = None,
        collate: Literal["torch", "numpy", "arrow"] | Mapping[str, Any] | Callable[[dict[str, Any]], Any] = "torch",
        dtypes: Mapping[str, Any] | Literal["stored"] | None = None,
        nulls: Any = "refuse",
        num_threads: int | Literal["auto"] = "auto",
        prefetch: int | None = None,
        memory_budget: int | str | None = None,
        autotune: bool = True,
        device: Any = None,
        pin_memory: bool | Literal["auto"] = "auto",
        device_prefetch: int = 1,
        device_budget: int | str | None = None,
        workers: Literal["thread", "process"] = "thread",
        on_error: Literal["raise", "quarantine"] = "raise",
    ) -> None:
        self.dataset = opened(dataset)
        self.batch_size = whole_number("batch_size", batch_size, 1)
        self.seed = whole_number("seed", seed)
        one_of("shuffle", shuffle, (True, False))
        one_of("tail", tail, TAILS)
        self.rank, self.world_size = resolve_rank(rank, world_size)
        self._placed = rank is not None
        one_of("autotune", autotune, (True, False))
        self._tuner = make_tuner(self.dataset, num_threads, prefetch, memory_budget, active=autotune)
        self._transform = None if transform is None else Transform(transform)
        self._collate = collate_function(collate, padded=tail == "pad")
        self._finishing = Finishing(self._transform, self._collate, own=not isinstance(collate, str))
        self._workers = hire(self._finishing, workers, self._tuner.threads, self)
        self._transport = Transport(
            device, pin_memory, arrays=self._collate is None or self._collate is dict,
            ahead=device_prefetch, ahead_bytes=device_budget, budget=self._tuner.budget,
        )  # fmt: skip
        one_of("on_error", on_error, ("raise", "quarantine"))
        self._counters = Counters()
        self._fitting = Fitting(
            batch_size=self.batch_size, seed=self.seed, shuffle=shuffle, tail=tail, rank=self.rank,
            world_size=self.world_size, pack=pack, bucket=bucket, lanes=lanes, window=window,
            columns=ColumnOptions(dtypes=dtypes, nulls=nulls), transport=self._transport, transform=self._transform,
            collate=self._collate,
            tensors=collate == "torch", finishing=self._finishing, workers=self._workers,
            quarantine=on_error == "quarantine", tuner=self._tuner, counters=self._counters,
        )  # fmt: skip
        self._following = following_for(self.dataset, self.world_size)
        self._fit(self.dataset)
        self._closed = False
        self._iterator: weakref.ref[EpochIterator] | None = None
        warn_of_no_batch(self._order, int(self.dataset.index.rows.sum()), getattr(self.dataset, "filter", None))

    def _fit(self, dataset: Dataset | Mixture) -> None:
        """Stand at the start of a dataset."""
        self._fitted = Fitted(dataset, self._fitting)
        self._fitted.supply.ends_with(self)
        self.dataset = dataset

    @property
    def num_threads(self) -> int:
        """Threads, now."""
        return self._tuner.threads

    @property
    def prefetch(self) -> int:
        """Batches made ahead, now."""
        return self._tuner.prefetch

    @property
    def memory_budget(self) -> int:
        """Bytes that reading ahead may fill, now."""
        return self._tuner.budget

    @property
    def _order(self) -> Sequence:
        return self._fitted.standing.order

    @property
    def global_batch(self) -> int:
        """Rows of a step over all ranks; bins, where they are packed; batches, with `Bucket(max_tokens=…)`."""
        return self._order.global_batch

    @property
    def epoch(self) -> int:
        """The epoch in progress, or the one that the next `iter()` begins."""
        return self._fitted.standing.progress.epoch

    @property
    def settings(self) -> Settings:
        """All that the order depends on, the dataset apart."""
        return self._fitted.shaping.settings(self._order, seed=self.seed, shuffle=self._fitting.shuffle)

    def __len__(self) -> int:
        """Batches of every epoch, on every rank. Where lengths decide, the first call reads those of all rows."""
        return self._order.steps

    def __iter__(self) -> Iterator[Any]:
        """Begin an epoch: the next one, unless `set_epoch` or `load_state_dict` said which.

        An epoch of which a batch was delivered counts as begun, so breaking off and iterating again gives the next one;
        a state just loaded is gone on from until its first batch was delivered.
        An earlier iterator of this loader ends. Of a dataset that was opened with `follow=`, an epoch that begins here
        is of the newest snapshot; one that a state names is of the state's.
        """
        if self._closed:
            raise ClosedError("this loader was closed", fix="make a new DataLoader")
        warn_of_repeats(placed=self._placed)
        self._end_iteration()
        progress = self._fitted.standing.begin()
        if self._following is not None and not progress.position and not progress.resumed:
            newer = self._following.newest(self.dataset)
            progress = progress if newer is None else self._move_to(newer, progress.epoch)
        walk, source, feeder = self._open()
        iterator = EpochIterator(
            source, progress, self._counters, feeder, supply=self._fitted.supply, over=lambda given: not walk.has(given)
        )
        self._iterator = weakref.ref(iterator)
        if self._workers is not None:
            self._workers.ends_with(iterator)
        return iterator

    def _open(self) -> tuple[EpochSequence, BatchSource, Feeder | None]:
        """The epoch in progress, its batches from where this loader stands, and what moves them to the device."""
        progress, order = self._fitted.standing.progress, self._order
        source: BatchSource | None = None
        kept = self._fitted.supply.take_over(order, progress.epoch, progress.position)
        if kept is not None:
            self._fitted.standing.follow(kept.course.walk)
            source = kept
        walk = self._fitted.standing.walk()
        if source is None:
            source = self._fitted.supply.source(walk, progress.epoch, progress.position)
        item = progress.epoch * numbered(order) + progress.position
        return walk, source, self._transport.feeder(source, widen=self._fitted.widen, first_item=item)

    def _end_iteration(self) -> None:
        iterator = self._iterator() if self._iterator is not None else None
        if iterator is not None:
            iterator.release()
        self._iterator = None

    def set_epoch(self, epoch: int) -> None:
        """Let the next `iter()` begin this epoch; the epoch of a state just loaded goes on where the state stands."""
        epoch = whole_number("epoch", epoch, 0)
        progress = self._fitted.standing.progress
        if epoch == progress.epoch and progress.resumed:
            return
        self._end_iteration()
        self._fitted.standing.move(epoch)
        self._fitted.supply.keep_only(self._order, epoch, 0)

    def skip(self, batches: int) -> None:
        """Pass over the next batches: after a loss spike, load the state from before it and skip what caused it.

        They are of the epoch in progress: an iteration under way goes on behind them, else the next `iter()` does. The
        state records what was skipped, for good.

        Args:
            batches: of every rank, 1 or more: call it on all ranks alike.

        Raises:
            ConfigError: the epoch has not so many left. ClosedError: the loader was closed.
        """
        batches = whole_number("batches", batches, 1)
        if self._closed:
            raise ClosedError("this loader was closed", fix="make a new DataLoader")
        self._fitted.standing.skip(batches)
        iterator = self._iterator() if self._iterator is not None else None
        if iterator is not None and not iterator.ended:
            iterator.close()
            _, source, feeder = self._open()
            iterator.go_on_with(source, self._fitted.standing.progress, feeder)

    def take_up(self, dataset: Dataset) -> None:
        """Let the next epoch be of another snapshot (`dataset.newer()`): call it on all ranks alike.

        For who decides when, or goes on from a state and wants what is new at once; an epoch in progress ends.

        Raises:
            SchemaError, ConfigError: its columns are not what this loader delivers. ClosedError: it was closed.
        """
        if self._closed:
            raise ClosedError("this loader was closed", fix="make a new DataLoader")
        self._end_iteration()
        progress = self._fitted.standing.progress
        self._move_to(opened(dataset), progress.epoch + bool(progress.position))

    def _move_to(self, dataset: Dataset, epoch: int) -> Progress:
        before = self._fitted
        self._fit(dataset)
        before.retire()
        self._fitted.standing.succeed(before.standing, epoch)
        return self._fitted.standing.progress

    def state_dict(self) -> dict[str, Any]:
        """Which batch comes next, as plain JSON, whatever was made ahead. Any rank's will do.

        `position` batches of `epoch` were delivered; once an epoch's last one was, that is 0 of the next.
        """
        state = named_in(self._fitted.standing.state(self.dataset.fingerprint, self.settings), self.dataset)
        return state if self._fitted.quarantine is None else self._fitted.quarantine.in_state(state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state: the next `iter()` gives the batches that would have come next.

        The state may come from another rank, world size, thread count or machine, and of a dataset that was opened with
        `follow=` from another snapshot.

        Raises:
            StateError: it does not fit; the message names each difference and its remedy.
        """
        other, before = snapshot_of(self.dataset, state), self._fitted
        if other is not None:
            self._fit(other)
        try:
            self._load(state)
        except BaseException:
            self._fitted, self.dataset = before, before.dataset
            raise
        if other is not None:
            before.retire()
        if self._following is not None:
            self._fitted.standing.first = self.epoch  # those before may have been of another snapshot

    def _load(self, state: Mapping[str, Any]) -> None:
        order = self._order
        geometry = geometry_for(
            state, order.geometry, self._fitting.chosen, self.dataset.fingerprint, self._fitted.shaping.can_have
        )
        units = saved_batch(state, self.world_size) if self._fitted.shaping.counts_batches else order.global_batch
        if (geometry, units) != (order.geometry, order.global_batch):
            order = self._fitted.order(geometry, units)
        settings = self._fitted.shaping.settings(order, seed=self.seed, shuffle=self._fitting.shuffle)
        quarantined = checked_quarantine(state, self.dataset, self._fitted.quarantine)
        self._fitted.standing.load(state, order, self.dataset.fingerprint, settings, world_size=self.world_size)
        self._end_iteration()
        if self._fitted.quarantine is not None:
            self._fitted.quarantine.restore(quarantined)
        progress = self._fitted.standing.progress
        self._fitted.supply.keep_only(order, progress.epoch, progress.position)

    def last_rows(self, batches: int = 1) -> list[dict[str, Any]]:
        """Epoch, number and row numbers of the last global batches delivered, see `datapipe.loader.delivered`."""
        return last_rows(self._fitted.standing, self.dataset, whole_number("batches", batches, 1))

    def stats(self) -> dict[str, Any]:
        """Counts since the loader was made, see `datapipe.loader.source.Counters`; for times, profile the run.

        `tuning`: what `autotune` did. `frozen` in it are arguments: `DataLoader(ds, 32, **frozen)` keeps its numbers.
        `cache`: see `datapipe.Cache.stats`, where the dataset has one. `quarantined`: each bad row group, and why.
        With `pack` or `bucket` also `tokens` of the batches made, and the `places` they stand in: the rest is padding.
        """
        progress, padding = self._fitted.standing.progress, self._fitted.shaping.padding
        counts = {**asdict(self._counters), "epoch": progress.epoch, "position": progress.position}
        counts.update(cache_counts(self.dataset))
        counts["tuning"] = self._tuner.stats()
        if self._fitted.quarantine is not None:
            counts["quarantined"] = self._fitted.quarantine.stats()
        return counts if padding is None else {**counts, "tokens": padding.tokens, "places": padding.places}

    def close(self) -> None:
        """End the iteration in progress, its threads and processes, from any state, within a second."""
        if self._workers is not None:
            self._workers.close()
        self._end_iteration()
        self._closed = True
        self._fitted.retire()

    def __repr__(self) -> str:
        at = f"epoch={self.epoch}, position={self._fitted.standing.progress.position}"
        return f"DataLoader({self.dataset!r}, {self.batch_size}, rank={self.rank}, world_size={self.world_size}, {at})"

    def __enter__(self) -> DataLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
