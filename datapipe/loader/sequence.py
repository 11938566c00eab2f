"""The contract of a global sequence: what the schedule needs to cut batches out of an epoch, whatever its units are.

What enters: nothing. What leaves: *units* lane by lane. A unit is what one place of a batch holds: a row; a bin of
packed documents; a batch of near lengths. Invariant: units and their order are a pure function of metadata; an epoch
may find out how long its lanes are as it goes (`reach`), and every rank finds the same.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, TypeVar, final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from datapipe.loader.geometry import Geometry

    Ints = npt.NDArray[np.int64]

Tail = Literal["drop", "pad", "partial"]

SomeUnits = TypeVar("SomeUnits", bound="Units")


@dataclass(frozen=True, kw_only=True, eq=False)
class Units(abc.ABC):
    """Consecutive units of a lane, and the rows that they are made of.

    Attributes:
        place, row: int64[n]: each row's block (its place in the lane's `blocks`), and the row there.
    """

    place: Ints
    row: Ints

    @classmethod
    @abc.abstractmethod
    def joined(cls, parts: list[Self]) -> Self:
        """The units of all parts, one after the other."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Rows(Units):
    """Units each of which is one whole row."""

    @classmethod
    def joined(cls, parts: list[Rows]) -> Rows:
        """See `Units.joined`."""
        return Rows(
            place=np.concatenate([part.place for part in parts]), row=np.concatenate([part.row for part in parts])
        )


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Pieces(Units):
    """Units that are made of several rows, or of parts of rows.

    Attributes:
        cuts: int64[u + 1]: unit i is made of pieces [cuts[i], cuts[i + 1]), in this order; a piece is of one row.
        start, length: int64[n]: which part of the row, in tokens. whole: int64[n]: the tokens that row has.
    """

    cuts: Ints
    start: Ints
    length: Ints
    whole: Ints

    @classmethod
    def joined(cls, parts: list[Pieces]) -> Pieces:
        """See `Units.joined`."""
        held = np.cumsum([0, *(len(part.row) for part in parts)])
        names = ("place", "row", "start", "length", "whole")
        return Pieces(
            cuts=np.concatenate([np.zeros(1, np.int64), *(part.cuts[1:] + held[i] for i, part in enumerate(parts))]),
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
        )


def join_units(parts: list[SomeUnits]) -> SomeUnits:
    """The units of all parts (one at least, and all of one kind), one after the other."""
    return parts[0] if len(parts) == 1 else parts[0].joined(parts)


class Sequence(abc.ABC):
    """The order of every epoch.

    Attributes:
        global_batch: units of a global batch, over all ranks. tail: what becomes of those after the last full one.
        geometry: what the state records of the shuffle.
        packs: a batch has one row per unit, filled with the unit's pieces; else every piece is a row of its own.
        divisible: units are batches; where there are more ranks than units in a global batch, ranks share a unit.
        page: units cut into batches together, at least: the arithmetic is vectorised over them.
        steady: `steps` is known without planning anything.
    """

    global_batch: int
    tail: Tail
    packs: bool = False
    divisible: bool = False
    page: int = 1 << 16
    steady: bool = True
    geometry: Geometry

    @property
    @abc.abstractmethod
    def lanes(self) -> int:
        """How many lanes there are."""

    @property
    def source_cuts(self) -> Ints:
        """Where lanes are those of several sources: source k has lanes [cuts[k], cuts[k + 1])."""
        return np.array([0, self.lanes])

    @property
    @abc.abstractmethod
    def steps(self) -> int:
        """Global batches of an epoch; where it takes planning, all of the epoch is planned."""

    @abc.abstractmethod
    def epoch(self, epoch: int, cursor: Ints | None = None) -> EpochSequence:
        """The order of one epoch; `cursor`: what `EpochSequence.cursor` gave, to begin there without what is before."""


class EpochSequence(abc.ABC):
    """The order within one epoch. Used by one thread at a time, `reach`, `has` and `cursor` apart.

    Attributes:
        order: the sequence it belongs to.
        blocks: per lane, int64: its blocks in the order they are read.
        windows: per lane, int64[w + 1]: window w is the lane's units [windows[w], windows[w + 1]); what is not known
            yet is past every position reached.
        first: per lane, int64[w + 1]: and its blocks [first[w], first[w + 1]) of `blocks`.
    """

    order: Sequence
    blocks: list[Ints]
    windows: list[Ints]
    first: list[Ints]

    @abc.abstractmethod
    def reach(self, position: int) -> int:
        """Plan up to a position of the global sequence: that position, or the epoch's units if there are fewer."""

    def has(self, batch: int) -> bool:
        """Whether the epoch has a batch of this number."""
        size = self.order.global_batch
        start, end = batch * size, (batch + 1) * size
        known = self.reach(end)
        return known == end or (known > start and self.order.tail != "drop")

    @abc.abstractmethod
    def counts(self, positions: npt.ArrayLike) -> Ints:
        """How many units each lane has given before each position (reached before): int64[len(positions), L]."""

    def shares(self, positions: Ints) -> Ints:
        """How many units each source has given before each position, from any start on: int64[len(positions), K]."""
        return positions[:, None]

    def source_of(self, positions: Ints) -> Ints:
        """The source of each position, where there are several: a batch has its rows in this order."""
        return np.zeros(len(positions), np.int64)

    @abc.abstractmethod
    def units(self, lane: int, start: int, end: int) -> Units:
        """A lane's units [start, end), start < end. Those of a sequence are all of one kind."""

    def cursor(self, position: int) -> Ints | None:
        """int64[L, 2]: each lane's window at a position, and its units before that; None: nothing to be saved.

        A pure function of the order and the position: with it nothing before the position need be planned again.
        """
        del position
        return None

    def window_blocks(self, lane: int, window: int) -> Ints:
        """The blocks of one window, in read order."""
        return self.blocks[lane][self.first[lane][window] : self.first[lane][window + 1]]
