"""A dry run of an epoch: what reading a dataset will cost and how well it is shuffled, from metadata alone.

What enters: a dataset's index and the loader's settings. What leaves: an `EpochPlan`, printable.
Invariant: no row is read; the order looked at is the very order the loader will deliver.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from datapipe.errors import ConfigError
from datapipe.loader.geometry import choose_geometry
from datapipe.loader.mixture import Mixture
from datapipe.loader.order import Order
from datapipe.loader.schedule import Schedule
from datapipe.loader.shaping import Shaping
from datapipe.loader.units import UnitOrder

if TYPE_CHECKING:
    from datapipe.dataset import Dataset
    from datapipe.loader.bucket import Bucket
    from datapipe.loader.pack import Pack
    from datapipe.loader.sequence import Sequence, Tail

_SAMPLED_ROWS: Final = 1 << 16
_SAMPLED_STEPS: Final = 32
_TAILS: Final = ("drop", "pad", "partial")


@dataclass(frozen=True, kw_only=True)
class EpochPlan:
    """What one epoch comes to. Bytes are uncompressed, all columns of the row groups, as the index knows them.

    Attributes:
        steps_per_rank: batches each rank delivers; the same on every rank.
        rows_left_out, rows_padded: what `tail` does to the last batch (bins of it, where rows are packed).
        reads_per_block: how often a row group is read in an epoch, over all ranks: 1.0 where each rank has whole lanes.
        bytes_per_rank: what one rank reads in an epoch, on average.
        window_bytes: what one rank holds of the current windows at once; read-ahead comes on top, within its budget.
        cache_bytes: the least cache that lets a second epoch on one node (all ranks) read nothing again.
        displacement: mean distance of a row from its place in file order, relative to that of a uniform shuffle (1.0).
        neighbours: share of rows that directly follow their neighbour in the file (1.0 unshuffled, near 0 shuffled).
        shape: what a batch is made of. padding: share of it that is padding, where rows are packed or bucketed.
    """

    rows: int
    row_groups: int
    batch_size: int
    world_size: int
    global_batch: int
    steps_per_rank: int
    rows_left_out: int
    rows_padded: int
    lanes: int
    window: int
    bytes_per_epoch: int
    reads_per_block: float
    bytes_per_rank: int
    window_bytes: int
    cache_bytes: int
    displacement: float
    neighbours: float
    shape: str = "rows"
    padding: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        unit = self.shape.split(" ", 1)[0]
        tail = f", {self.rows_left_out:,} {unit} left out" if self.rows_left_out else ""
        tail += f", {self.rows_padded:,} {unit} repeated" if self.rows_padded else ""
        again = "each row group is read once"
        lanes = _of(self.lanes, "lane")
        if self.reads_per_block > 1:
            again = f"row groups are read {self.reads_per_block:.2f} times: {lanes} cannot be shared out evenly"
        rows = "row" if (self.batch_size, self.shape) == (1, "rows") else self.shape
        batch = f"{self.batch_size} {rows} × {_of(self.world_size, 'rank')}"
        held = f"{lanes} × {_of(self.window, 'row group')}"
        lines = [
            f"{_of(self.rows, 'row')} in {_of(self.row_groups, 'row group')}",
            f"steps      {self.steps_per_rank:,} per rank, {batch}{tail}",
            f"reads      {_mb(self.bytes_per_epoch)} an epoch, {_mb(self.bytes_per_rank)} a rank; {again}",
            f"memory     {_mb(self.window_bytes)} of windows a rank: {held}",
            f"cache      {_mb(self.cache_bytes)} hold a node's whole epoch",
            f"shuffle    rows move {self.displacement:.0%} as far as in a uniform shuffle",
            f"           {self.neighbours:.2%} still follow their neighbour",
        ]
        if self.padding is not None:
            lines.insert(2, f"padding    {self.padding:.2%} of a batch")
        if self.rows and not self.steps_per_rank:
            rows = f"{self.global_batch:,} rows"
            lines.append(f"warning    no batch: a global batch of {rows} is more than there are; --tail pad")
        return "\n  ".join(lines)


def _of(count: int, name: str) -> str:
    return f"{count:,} {name}" if count == 1 else f"{count:,} {name}s"


def plan_epoch(
    dataset: Dataset | Mixture,
    *,
    batch_size: int,
    world_size: int = 1,
    tail: str = "drop",
    shuffle: bool = True,
    seed: int = 0,
    lanes: int | None = None,
    window: int | None = None,
    pack: Pack | None = None,
    bucket: Bucket | None = None,
) -> EpochPlan:
    """Plan epoch 0 of `DataLoader(dataset, batch_size=…, …)` on `world_size` ranks.

    With `pack` or `bucket` the lengths of all rows are read.

    Raises:
        ConfigError: a setting is out of range.
    """
    if tail not in _TAILS:
        raise ConfigError(f"tail={tail!r}", expected=" or ".join(_TAILS))
    if batch_size < 1 or world_size < 1:
        raise ConfigError(f"batch_size={batch_size}, world_size={world_size}", expected="both at least 1")
    if isinstance(dataset, Mixture):
        raise ConfigError("a plan of a mix", expected="one dataset", fix="plan its sources one by one")
    index = dataset.index
    geometry = choose_geometry(index.rows, index.bytes, shuffle=shuffle, lanes=lanes, window=window)
    order = Order(
        fingerprint=dataset.fingerprint,
        seed=seed,
        rows=index.rows,
        geometry=geometry,
        global_batch=batch_size * world_size,
        tail=cast("Tail", tail),
        shuffle=shuffle,
    )
    shaping = Shaping(dataset, pack, bucket, batch_size)
    units, steps, step_units, padding = order.num_rows, order.steps, order.global_batch, None
    if shaping.padding is not None:
        step_units = world_size if shaping.counts_batches else step_units
        sequence = shaping.sequence(
            seed=seed, geometry=geometry, global_batch=step_units, tail=order.tail, shuffle=shuffle
        )
        steps = sequence.steps
        units = sequence.units if isinstance(sequence, UnitOrder) else units
        padding = _padding(shaping, sequence, world_size)
    total = int(index.bytes.sum())
    shares = max(1.0, _readers(order.lanes, world_size))
    mean_block = total / max(1, len(order.blocks))
    left = units - steps * step_units
    displacement, neighbours = shuffle_quality(order)
    held = -(-order.lanes // world_size) * geometry.window * mean_block
    return EpochPlan(
        rows=order.num_rows,
        row_groups=len(index),
        batch_size=batch_size,
        world_size=world_size,
        global_batch=step_units,
        steps_per_rank=steps,
        rows_left_out=max(0, left) if tail == "drop" else 0,
        rows_padded=max(0, -left) if tail == "pad" else 0,
        lanes=order.lanes,
        window=geometry.window,
        bytes_per_epoch=total,
        reads_per_block=shares,
        bytes_per_rank=int(total * shares / world_size),
        window_bytes=int(min(held, total)),
        cache_bytes=total,
        displacement=displacement,
        neighbours=neighbours,
        shape=_shape(pack, bucket),
        padding=padding,
    )


def _shape(pack: Pack | None, bucket: Bucket | None) -> str:
    if pack is not None:
        return f"bins of {pack.seq_len:,} tokens"
    if bucket is not None and bucket.max_tokens is not None:
        return f"rows at most, of {bucket.max_tokens:,} tokens together,"
    return "rows"


def _padding(shaping: Shaping, sequence: Sequence, world_size: int) -> float:
    """The share of padding in batches spread evenly through epoch 0: each rank's is padded to its own longest row."""
    walk, steps = sequence.epoch(0), sequence.steps
    tokens = places = 0
    for step in np.unique(np.linspace(0, max(0, steps - 1), _SAMPLED_STEPS).astype(int)).tolist() if steps else []:
        for rank in range(world_size):
            stretch = Schedule(walk, rank=rank, world_size=world_size, start=step, max_rows=1).next()
            assert stretch is not None
            if stretch.bins is not None:
                assert shaping.packing is not None
                tokens += int(stretch.bins.length[: stretch.cuts[1]].sum())
                places += stretch.bins.batches[1] * shaping.packing.seq_len
            elif stretch.cuts[1]:
                part = slice(0, stretch.cuts[1])
                lengths = shaping.lengths_of(stretch.blocks[stretch.slot[part]], stretch.row[part])
                tokens += int(lengths.sum())
                places += int(lengths.max()) * len(lengths)
    return 1 - tokens / max(1, places)


def _readers(lanes: int, ranks: int) -> float:
    """How many ranks read a lane, on average: rank r takes the r-th of R equal parts of the lanes laid end to end."""
    touched = sum(-(-(rank + 1) * lanes // ranks) - rank * lanes // ranks for rank in range(ranks))
    return touched / lanes


def shuffle_quality(order: Order, *, epoch: int = 0) -> tuple[float, float]:
    """(displacement, neighbours) as `EpochPlan` defines them, over batches spread evenly through the epoch.

    In a uniform shuffle of n rows the mean distance of a row from its place is n/3, and 1/n of them follow their
    neighbour.
    """
    n = order.num_rows
    steps = max(1, n // order.global_batch)
    if n < 2:
        return 0.0, 0.0
    sampled = np.unique(np.linspace(0, steps - 1, max(1, min(steps, _SAMPLED_ROWS // order.global_batch))).astype(int))
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(order.rows)])
    where = order.epoch(epoch)
    moved, follow, pairs, seen = 0.0, 0, 0, 0
    for step in sampled.tolist():
        start, end = step * order.global_batch, min((step + 1) * order.global_batch, n)
        given = order.counts([start, end])
        natural = []
        for lane in range(order.lanes):
            low, high = given[:, lane].tolist()
            if low < high:
                rows = where.units(lane, low, high)
                natural.append(first[where.blocks[lane][rows.place]] + rows.row)
        given_rows = np.concatenate(natural)
        moved += float(np.abs(given_rows - np.arange(start, end)).sum())
        seen += len(given_rows)
        follow += int((np.diff(given_rows) == 1).sum())
        pairs += max(0, len(given_rows) - 1)
    return moved / seen / (n / 3), follow / max(1, pairs)


def _mb(n: float) -> str:
    return f"{n / 1e9:.2f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"
