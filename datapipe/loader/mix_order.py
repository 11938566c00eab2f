"""The order of a mix: the orders of its sources, side by side, each at its own pace and in its own epochs.

What enters: a sequence per source, and whose turn it is at each position. What leaves: a sequence like any other, whose
lanes are the sources' lanes. Invariant: a pure function. The mix is one endless sequence of positions; its epochs are
parts of equal length. A source's units are those of its own epochs, one after the other, each of them whole.

Source k has given C before a position: it stands in its epoch C // n at C mod n, n being its units of an epoch (as
many in all). Lanes count what they gave since the epoch of their source in which the mix's epoch began. A lane that is
read as one window stays that window throughout, so that a small source is read once, however often it comes again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, final

import numpy as np

from datapipe.errors import ConfigError, LoaderError, StateError
from datapipe.loader.sequence import EpochSequence, Sequence, join_units
from datapipe.locks import new_lock

if TYPE_CHECKING:
    import numpy.typing as npt

    from datapipe.loader.geometry import Geometry
    from datapipe.loader.mix_shares import Shares
    from datapipe.loader.sequence import Tail, Units

    Ints = npt.NDArray[np.int64]

_ENDLESS: Final = 1 << 62
"""Where the one window of a small lane ends."""
_WALKS: Final = 8
"""Epochs of one source whose order is kept: a batch holds rows of one, rarely two, unless the source is tiny."""


@final
class MixOrder(Sequence):
    """The order of every epoch.

    Args:
        names: of the sources. sources: their sequences, of `global_batch` 1 and tail "partial", of one kind.
        shares: whose turn it is. offsets: added to the block numbers of each source.
        until: see `datapipe.mix`. With tail "drop" the units of an epoch are a multiple of the global batch.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        sources: list[Sequence],
        shares: Shares,
        *,
        offsets: list[int],
        until: Literal["first", "all"] | int,
        geometry: Geometry,
        global_batch: int,
        tail: Tail,
    ) -> None:
        self.names = names
        self.sources = sources
        self.shares = shares
        self.offsets = offsets
        self.geometry = geometry
        self.global_batch = global_batch
        self.tail = tail
        self.packs, self.divisible = sources[0].packs, sources[0].divisible
        self.page = min(source.page for source in sources)
        self._until = until
        self._units = until if isinstance(until, int) else None
        self.steady = self._units is not None or all(source.steady for source in sources)
        self._sizes: list[int | None] = [None] * len(sources)
        self._cuts = np.cumsum([0, *(source.lanes for source in sources)])

    @property
    def lanes(self) -> int:
        """How many lanes there are, of all sources."""
        return int(self._cuts[-1])

    @property
    def source_cuts(self) -> Ints:
        """Source k has lanes [cuts[k], cuts[k + 1])."""
        return self._cuts

    def size(self, source: int) -> int:
        """Units of each of a source's own epochs. Of those that are planned as they go all is planned, once.

        Raises:
            LoaderError: there are none.
        """
        known = self._sizes[source]
        return self.found(source, self.sources[source].steps) if known is None else known

    def known_size(self, source: int) -> int | None:
        """The same, if it takes no planning."""
        return self.size(source) if self.sources[source].steady else self._sizes[source]

    def found(self, source: int, units: int) -> int:
        """What a source's epoch came to."""
        if not units:
            raise LoaderError(
                f"source {self.names[source]!r} gives no unit: all of its rows are empty",
                expected="one unit or more of each source whose weight is above 0",
                fix=f'leave it out, or weights={{"{self.names[source]}": 0, …}}',
            )
        self._sizes[source] = units
        return units

    @property
    def units(self) -> int:
        """Units of an epoch."""
        if self._units is None:
            ends = {name: self.shares.reaches(k, self.size(k)) for k, name in enumerate(self.names)}
            known = [end for end in ends.values() if end is not None]
            if self._until == "all" and len(known) < len(ends):
                name = next(name for name, end in ends.items() if end is None)
                raise ConfigError(
                    f'until="all", and source {name!r} is never gone through: its weight ends at 0',
                    expected="a last weight above 0 for every source that is read",
                    fix='until="first", or a number of rows',
                )
            self._units = max(known) if self._until == "all" else min(known)
        if self.tail == "drop":
            return self._units // self.global_batch * self.global_batch
        return self._units

    @property
    def steps(self) -> int:
        """Global batches of an epoch."""
        return -(-self.units // self.global_batch)

    def epoch(self, epoch: int, cursor: Ints | None = None) -> MixEpoch:
        """The order of one epoch; it needs no cursor."""
        del cursor
        return MixEpoch(self, epoch)


@final
class _Walk:
    """One source on its way through one epoch of the mix."""

    def __init__(self, order: MixOrder, source: int, before: int) -> None:
        self._order = order
        self._source = source
        self._sequence = order.sources[source]
        size = order.known_size(source)
        if size is None and before:
            size = order.size(source)
        # Its own epoch in which the mix's begins.
        self.first = before // size if size else 0
        self._kept: OrderedDict[int, EpochSequence] = OrderedDict()
        self._lock = new_lock()
        self._model = self._sequence.epoch(self.first)
        self.single = [len(first) == 2 for first in self._model.first]
        own = range(self._sequence.lanes)
        self._last = self.first
        self._offset = order.offsets[source]
        self.blocks = [
            self._offset + (np.sort(blocks) if alone else blocks)
            for alone, blocks in zip(self.single, self._model.blocks, strict=True)
        ]
        self.windows = [np.array([0, _ENDLESS]) if self.single[lane] else self._model.windows[lane] for lane in own]
        self.heads = [self._model.first[lane] for lane in own]
        self._totals: Ints | None = None

    def at(self, epoch: int) -> EpochSequence:
        """The order of one of the source's own epochs, planned as far as it was asked for."""
        if epoch == self.first:
            return self._model
        with self._lock:
            walk = self._kept.pop(epoch, None)
        if walk is None:
            walk = self._sequence.epoch(epoch)
            if not self._sequence.steady:
                _exhaust(walk, self._order.size(self._source))  # counted before: no lengths are read for it
        with self._lock:
            self._kept[epoch] = walk
            while len(self._kept) > _WALKS:
                self._kept.popitem(last=False)
        return walk

    @property
    def totals(self) -> Ints:
        """Units of each lane in each of the source's epochs. Only where an epoch is known to its end."""
        if self._totals is None:
            size = self._order.size(self._source)
            _exhaust(self._model, size)
            self._totals = self._model.counts([size])[0]
        return self._totals

    def reach(self, units: int) -> None:
        """Plan as far as it takes for the source to have given so many units since the run began."""
        size = self._order.known_size(self._source)
        if size is None:
            found = self._model.reach(units)
            if found < units:
                size = self._order.found(self._source, found)
        if size is None:
            self._show()
            return
        epoch, rest = divmod(max(0, units - 1), size)
        if epoch == self.first:
            self._model.reach(rest + 1)
        elif not self._sequence.steady:
            _exhaust(self._model, size)
        if self._last == self.first:
            self._show()
        while not all(self.single) and self._last < epoch:
            self._last += 1
            self._append(self.at(self._last))

    def _show(self) -> None:
        """Take over the windows that the first of its epochs was found to have so far."""
        for lane, alone in enumerate(self.single):
            if not alone and not self._sequence.steady:
                self.windows[lane] = self._model.windows[lane].copy()

    def _append(self, walk: EpochSequence) -> None:
        """Another of the source's epochs, behind those before it. Arrays are replaced, and only ever extended."""
        for lane, alone in enumerate(self.single):
            if not alone:
                self.blocks[lane] = np.concatenate([self.blocks[lane], self._offset + walk.blocks[lane]])
                self.heads[lane] = np.concatenate([self.heads[lane], self.heads[lane][-1] + walk.first[lane][1:]])
                base = int(self.totals[lane]) * (self._last - self.first)
                self.windows[lane] = np.concatenate([self.windows[lane], base + walk.windows[lane][1:]])

    def counts(self, units: Ints) -> Ints:
        """What its lanes have given before it has given so many, for many: int64[p, lanes]."""
        size = self._order.known_size(self._source)
        if size is None:
            return self._model.counts(units)
        epoch, rest = np.divmod(units, size)
        whole = (epoch - self.first)[:, None] * self.totals if (epoch != self.first).any() else 0
        given: Ints = whole + self._model.counts(rest)
        return given

    def parts(self, lane: int, start: int, end: int) -> list[tuple[int, int, int]]:
        """A lane's units [start, end) as (own epoch, start, end) within each."""
        if self._order.known_size(self._source) is None:
            return [(self.first, start, end)]
        total = int(self.totals[lane])
        found = []
        while start < end:
            epoch = start // total
            stop = min(end, (epoch + 1) * total)
            found.append((self.first + epoch, start - epoch * total, stop - epoch * total))
            start = stop
        return found

    def places(self, lane: int, epoch: int, place: Ints) -> Ints:
        """Places in `blocks` of those in one epoch's."""
        if not self.single[lane]:
            return place + (epoch - self.first) * len(self._model.blocks[lane])
        blocks = self.blocks[lane]
        if len(blocks) == 1:
            return place
        found: Ints = np.searchsorted(blocks, self._offset + self.at(epoch).blocks[lane])[place]
        return found


def _exhaust(walk: EpochSequence, size: int) -> None:
    """Plan all of an epoch: one more unit is asked for than there are, as windows of none may be the last."""
    walk.reach(size + 1)


@final
class MixEpoch(EpochSequence):
    """The order within one epoch."""

    def __init__(self, order: MixOrder, epoch: int) -> None:
        self.order: MixOrder = order
        self._begin = epoch * order.units if epoch else 0
        if self._begin >= _ENDLESS:
            raise StateError(
                f"epoch {epoch} of a mixture of {order.units:,}", expected="fewer than 2^62 units before it"
            )
        before = order.shares.counts([self._begin])[0]
        self._walks = [_Walk(order, source, int(units)) for source, units in enumerate(before)]
        self._of = np.repeat(np.arange(len(self._walks)), np.diff(order.source_cuts)).tolist()
        self._reached = -1
        self._lock = new_lock()
        self._gather()

    def _gather(self) -> None:
        self.blocks = [blocks for walk in self._walks for blocks in walk.blocks]
        self.windows = [windows for walk in self._walks for windows in walk.windows]
        self.first = [heads for walk in self._walks for heads in walk.heads]

    def reach(self, position: int) -> int:
        """Plan the sources as far as the position takes them: a mix never runs dry."""
        position = min(position, self.order.units)
        if position > self._reached:
            with self._lock:
                given = self.order.shares.counts([self._begin + position])[0].tolist()
                for walk, units in zip(self._walks, given, strict=True):
                    walk.reach(units)
                self._gather()
                self._reached = max(position, self._reached)
        return position

    def shares(self, positions: Ints) -> Ints:
        """How many units each source has given, since the run began."""
        return self.order.shares.counts(self._begin + positions)

    def source_of(self, positions: Ints) -> Ints:
        """The source of each position."""
        return self.order.shares.of(self._begin + positions)

    def counts(self, positions: npt.ArrayLike) -> Ints:
        """How many units each lane has given, since the epoch of its source in which this one began."""
        given = self.shares(np.asarray(positions, np.int64))
        return np.concatenate([walk.counts(given[:, k]) for k, walk in enumerate(self._walks)], axis=1)

    def units(self, lane: int, start: int, end: int) -> Units:
        """The units of a lane's source, its epochs one after the other."""
        source = self._of[lane]
        walk, own = self._walks[source], lane - int(self.order.source_cuts[source])
        found = []
        for epoch, low, high in walk.parts(own, start, end):
            units = walk.at(epoch).units(own, low, high)
            found.append(replace(units, place=walk.places(own, epoch, units.place)))
        return join_units(found)
