"""From `pack=` and `bucket=` to the sequence that a loader walks.

What enters: the dataset, the two options, the batch size. What leaves: which columns are read, what the state
records of it, and the sequence. Invariant: without either option the sequence is that of rows, and nothing is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

import numpy as np

from datapipe.errors import ConfigError
from datapipe.loader.bucket import Bucket, TokenBatches
from datapipe.loader.filled import CU_SEQLENS, MAX_SEQLEN
from datapipe.loader.geometry import Geometry, choose_geometry
from datapipe.loader.graded import GradedOrder
from datapipe.loader.lengths import SOUND_COLUMNS, TOKEN_COLUMNS, Lengths, measured_column
from datapipe.loader.mixing import can_be_mixed, mixed_geometry, mixed_sequence, record_of
from datapipe.loader.mixture import Mixture
from datapipe.loader.order import Order
from datapipe.loader.pack import Pack, PackShape
from datapipe.loader.packed import POSITIONS, SEGMENTS
from datapipe.loader.padding import Padding
from datapipe.loader.stages import MASK
from datapipe.loader.state import Settings
from datapipe.loader.units import UnitOrder

if TYPE_CHECKING:
    import numpy.typing as npt

    from datapipe.dataset import Dataset
    from datapipe.loader.sequence import Sequence, Tail
    from datapipe.loader.shape import Shape

    Ints = npt.NDArray[np.int64]


@final
class Shaping:
    """What a loader does with rows before it makes batches of them.

    Args:
        batch_size: rows of a rank's batch (bins, when packing).

    Attributes:
        data: the dataset that is read: of the packed columns alone, where rows are packed.
        padding: how much of the batches is padding; None: of rows as they are it is not counted.
        pack, bucket: what the state records of each: all that the sequence depends on.

    Raises:
        ConfigError: both are given, or they do not go with the dataset's columns.
    """

    def __init__(self, dataset: Dataset | Mixture, pack: Pack | None, bucket: Bucket | None, batch_size: int) -> None:
        for name, value, kind in (("pack", pack, Pack), ("bucket", bucket, Bucket)):
            if value is not None and not isinstance(value, kind):
                raise ConfigError(f"{name}={value!r}", expected=f"a datapipe.{kind.__name__}, or None")
        if pack is not None and bucket is not None:
            raise ConfigError("pack and bucket together", expected="one of them", fix="packed rows are of one length")
        self.data: Dataset | Mixture = dataset
        self.packing = pack
        self.pack: dict[str, Any] | None = None
        self.bucket: dict[str, Any] | None = None
        self.padding: Padding | None = None
        self._mix: tuple[Geometry, dict[str, Any]] | None = None
        self._shape: Shape | None = None
        self._lengths: Lengths | None = None
        self._boundaries: tuple[int, ...] | None = None
        if pack is not None:
            self._set_pack(dataset, pack)
        if bucket is not None:
            self._set_bucket(dataset, bucket, batch_size)
        self._most_rows = batch_size if self.counts_batches else 1

    def _set_pack(self, dataset: Dataset | Mixture, pack: Pack) -> None:
        names = pack.names or (measured_column(dataset, None, TOKEN_COLUMNS),)
        self.data = dataset.select(names)
        for field in self.data.schema:
            if not _is_list_of_numbers(field.type):
                raise ConfigError(
                    f"pack takes column {field.name!r}, which is {field.type}",
                    expected="lists of numbers, of any length",
                    fix="rows of one length are packed already: leave pack out" if "fixed" in str(field.type) else None,
                )
        unknown = sorted(set(pack.pad) - set(names)) if isinstance(pack.pad, Mapping) else []
        if unknown:
            raise ConfigError(
                f"Pack(pad=…) names {unknown[0]!r}, which is not packed",
                expected=", ".join(names),
                fix=f"Pack(…, columns={[*names, unknown[0]]!r})" if unknown[0] in dataset.schema.names else None,
            )
        taken = sorted({SEGMENTS, POSITIONS, CU_SEQLENS, MAX_SEQLEN, MASK} & set(names))
        if taken:
            raise ConfigError(f"pack takes column {taken[0]!r}", expected="a name that packing does not give itself")
        self._lengths = Lengths(dataset, names[0], pack.length)
        self._shape = PackShape(pack)
        self.padding = Padding()
        self.pack = {
            "seq_len": pack.seq_len,
            "columns": list(names),
            "length": self._lengths.source,
            "long": pack.long,
        }

    def _set_bucket(self, dataset: Dataset | Mixture, bucket: Bucket, batch_size: int) -> None:
        column = measured_column(dataset, bucket.column, (*TOKEN_COLUMNS, *SOUND_COLUMNS))
        self._lengths = Lengths(dataset, column, bucket.length)
        self.padding = Padding(column)
        boundaries = None if bucket.boundaries is None else [int(each) for each in bucket.boundaries]
        self.bucket = {
            "boundaries": boundaries,
            "max_tokens": bucket.max_tokens,
            "column": column,
            "length": self._lengths.source,
        }
        if boundaries is not None:
            if isinstance(dataset, Mixture):
                raise ConfigError(
                    "bucket boundaries for a mix: its sources have batches of their own only with max_tokens",
                    fix="Bucket(max_tokens=...), or Pack",
                )
            self._boundaries = tuple(boundaries)
        else:
            assert bucket.max_tokens is not None
            self.bucket["max_rows"] = batch_size
            self._shape = TokenBatches(int(bucket.max_tokens), batch_size)

    @property
    def counts_batches(self) -> bool:
        """A unit is a whole batch: a global batch is one for each rank that the run began with."""
        return self._shape is not None and self._shape.divisible

    def geometry(self, *, shuffle: bool, lanes: int | None, window: int | None) -> Geometry:
        """The geometry asked for; what is None is chosen from the dataset."""
        if isinstance(self.data, Mixture):
            return mixed_geometry(self.data, shuffle=shuffle, lanes=lanes, window=window)
        index = self.data.index
        return choose_geometry(index.rows, index.bytes, shuffle=shuffle, lanes=lanes, window=window)

    def can_have(self, geometry: Geometry) -> bool:
        """Whether the dataset can be cut so: a lane has a block at least, and a window no more than a lane."""
        if isinstance(self.data, Mixture):
            return can_be_mixed(self.data, geometry)
        index = self.data.index
        lanes, window = geometry.lanes, geometry.window
        return choose_geometry(index.rows, index.bytes, shuffle=True, lanes=lanes, window=window) == geometry

    def mix(self, geometry: Geometry) -> dict[str, Any] | None:
        """What the state records of a mix of datasets; None: there is one."""
        if not isinstance(self.data, Mixture):
            return None
        if self._mix is None or self._mix[0] is not geometry:  # made once: a state is to cost microseconds
            self._mix = geometry, record_of(self.data, geometry)
        return self._mix[1]

    def settings(self, order: Sequence, *, seed: int, shuffle: bool) -> Settings:
        """All that the order depends on, the dataset apart."""
        geometry = order.geometry
        return Settings(
            global_batch=order.global_batch,
            seed=seed,
            shuffle=shuffle,
            lanes=geometry.lanes,
            window=geometry.window,
            tail=order.tail,
            mix=self.mix(geometry),
            pack=self.pack,
            bucket=self.bucket,
        )

    @property
    def lengths(self) -> Lengths | None:
        """Of rows, where batches are planned by them."""
        return self._lengths

    def sequence(self, *, seed: int, geometry: Geometry, global_batch: int, tail: Tail, shuffle: bool) -> Sequence:
        """The sequence of this dataset, so shaped; `global_batch` counts its units."""
        data = self.data
        if not isinstance(data, Mixture):
            return self._sequence(data, data.fingerprint, self._lengths, seed, geometry, global_batch, tail, shuffle)

        def make(source: int, name: str, own: Geometry) -> Sequence:
            dataset = data.sources[source]
            lengths = None
            if self._lengths is not None:
                lengths = Lengths(dataset, self._lengths.column, self._lengths.source)
            return self._sequence(dataset, name, lengths, seed, own, 1, "partial", shuffle)

        return mixed_sequence(
            data, make, geometry=geometry, global_batch=global_batch, tail=tail, shuffle=shuffle, seed=seed,
            of_rows=self._shape is None,
        )  # fmt: skip

    def _sequence(
        self,
        data: Any,
        name: str,
        lengths: Lengths | None,
        seed: int,
        geometry: Geometry,
        global_batch: int,
        tail: Tail,
        shuffle: bool,
    ) -> Sequence:
        rows = data.index.rows
        if self._shape is not None:
            assert lengths is not None
            return UnitOrder(
                fingerprint=name, seed=seed, rows=rows, geometry=geometry, global_batch=global_batch, tail=tail,
                shuffle=shuffle, shape=self._shape, lengths=lengths,
            )  # fmt: skip
        order = Order(
            fingerprint=name, seed=seed, rows=rows, geometry=geometry, global_batch=global_batch, tail=tail,
            shuffle=shuffle,
        )  # fmt: skip
        if self._boundaries is None:
            return order
        assert lengths is not None
        return GradedOrder(order, np.array(self._boundaries, np.int64), lengths)

    def lengths_of(self, blocks: Ints, rows: Ints) -> Ints:
        """Lengths of rows given by block and place in it: int64[n] each."""
        assert self._lengths is not None
        return np.array(
            [self._lengths.of(block)[row] for block, row in zip(blocks.tolist(), rows.tolist(), strict=True)]
        )

    def units_at_once(self, rows: int, nbytes: int) -> int:
        """Units of a stretch of at most so many rows, or bytes of bins."""
        if self.packing is not None:
            return max(1, nbytes // (4 * self.packing.seq_len))
        return max(1, rows // self._most_rows)


def _is_list_of_numbers(kind: Any) -> bool:
    import pyarrow.types as pt

    from datapipe.loader.column_types import value_type

    kind = value_type(kind)
    if not (pt.is_list(kind) or pt.is_large_list(kind)):
        return False
    inner = value_type(kind.value_type)
    return bool(pt.is_integer(inner) or pt.is_floating(inner) or pt.is_boolean(inner))
