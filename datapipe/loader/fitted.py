"""What a loader makes of one dataset: columns, order, its place in it, and the supply of batches.

What enters: a dataset, and the loader's options as they were checked. What leaves: a `Fitted`. Invariant: everything in
a loader that depends on the dataset is here, so that another snapshot of it can take its place between two epochs.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np

from datapipe.loader.columns import Kind
from datapipe.loader.delivery import plan_delivery
from datapipe.loader.quarantine import Quarantine
from datapipe.loader.shaping import Shaping
from datapipe.loader.stages import Stages
from datapipe.loader.standing import Standing
from datapipe.loader.substitutes import Substitutes
from datapipe.loader.supply import Supply

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.dataset import Dataset
    from datapipe.loader.autotune import Tuner
    from datapipe.loader.bucket import Bucket
    from datapipe.loader.columns import ColumnOptions
    from datapipe.loader.finishing import Finishing
    from datapipe.loader.geometry import Geometry
    from datapipe.loader.mixture import Mixture
    from datapipe.loader.pack import Pack
    from datapipe.loader.sequence import Sequence
    from datapipe.loader.source import Counters
    from datapipe.loader.transform import Transform
    from datapipe.loader.transport import Transport
    from datapipe.loader.workers import Workers


@final
@dataclass(frozen=True, kw_only=True)
class Fitting:
    """The options of a loader that meet a dataset; see `DataLoader` for most.

    Attributes:
        collate: as `arguments.collate_function` made it. tensors: whether that makes torch's.
        quarantine: whether bad row groups are replaced.
    """

    batch_size: int
    seed: int
    shuffle: bool
    tail: Literal["drop", "pad", "partial"]
    rank: int
    world_size: int
    pack: Pack | None
    bucket: Bucket | None
    lanes: int | None
    window: int | None
    columns: ColumnOptions
    transport: Transport
    transform: Transform | None
    collate: Callable[[dict[str, Any]], Any] | None
    tensors: bool
    finishing: Finishing
    workers: Workers | None
    quarantine: bool
    tuner: Tuner
    counters: Counters

    @property
    def chosen(self) -> dict[str, int | None]:
        """The geometry that was asked for."""
        return {"lanes": self.lanes, "window": self.window}


@final
class Fitted:
    """One dataset under one loader's options, at its start.

    Attributes:
        data: what is read: the dataset, or of its columns those that are packed. columns: how each is delivered; None:
            as tables. widen: whether numbers travel narrow and widen on the device.
    """

    def __init__(self, dataset: Dataset | Mixture, options: Fitting) -> None:
        self._options = options
        self.dataset = dataset
        self.shaping = Shaping(dataset, options.pack, options.bucket, options.batch_size)
        self.data = self.shaping.data
        self.quarantine = Quarantine(dataset) if options.quarantine else None
        transform, collate = options.transform, options.collate
        self.columns, self.widen = plan_delivery(
            self.data.schema,
            options.columns,
            shuffled=bool(options.shuffle),
            narrow=options.transport.moves and options.tensors and transform is None,
            tables=collate is None or (transform is not None and transform.takes == "table"),
            collated=collate is not None,
            packed=self.shaping.packing is not None,
            padded=options.tail == "pad",
            moved=options.transport.moves,
        )
        self.standing = Standing(self.order())
        self.supply = self._make_supply()

    def order(self, geometry: Geometry | None = None, units: int | None = None) -> Sequence:
        """The sequence, of the geometry and the global batch asked for unless others are given."""
        options = self._options
        geometry = geometry or self.shaping.geometry(shuffle=options.shuffle, **options.chosen)
        rows = options.world_size if self.shaping.counts_batches else options.batch_size * options.world_size
        return self.shaping.sequence(
            seed=options.seed, geometry=geometry, global_batch=units or rows, tail=options.tail, shuffle=options.shuffle
        )

    def _make_supply(self) -> Supply:
        options, shaping = self._options, self.shaping
        stages = functools.partial(
            Stages,
            self.data,
            columns=self.columns,
            options=options.columns,
            transport=options.transport,
            finishing=options.finishing,
            workers=options.workers,
            positions=np.int32 if self.widen else np.int64,
            padded=options.tail == "pad",
            pack=shaping.packing,
            padding=shaping.padding,
            seed=options.seed,
        )
        substitutes = self.quarantine and functools.partial(
            Substitutes, self.quarantine, self.data, seed=options.seed, shuffled=options.shuffle,
            lengths=shaping.lengths, packed=shaping.packing is not None,
        )  # fmt: skip
        return Supply(
            dataset=self.dataset,  # type: ignore[arg-type]  # a mix is read as one
            shaping=shaping,
            stages=stages,
            substitutes=substitutes,
            by_row=self.columns is not None and all(column.kind is Kind.FIXED for column in self.columns),
            padded=options.tail == "pad",
            rank=options.rank,
            world_size=options.world_size,
            tuner=options.tuner,
            counters=options.counters,
        )

    def retire(self) -> None:
        """End what was read ahead: another takes its place."""
        self.supply.keeps = False
        self.supply.close()
