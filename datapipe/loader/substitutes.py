"""What stands in for a bad row group: the rows of another one of its lane, by a rule that needs no talking.

What enters: the number of a block that is bad. What leaves: a table of exactly the rows that the order expects of it.
Invariant: a pure function of fingerprint, seed, epoch, the block's number, and of which blocks of its lane are bad. So
positions, steps and batch sizes stay as they are, and every rank that asks gets the same rows.

The stand-in is the first good one of the lane's other blocks, in an order keyed by (fingerprint, seed, epoch, block);
without shuffling the next in file order. Its rows are taken modulo their number. Where batches are planned by length:
- `Bucket`: the rows of both blocks are lined up by length, and none is longer than the row it stands in for, unless all
  of the block's rows are.
- `Pack`: each row is as long as planned: tokens from a row's start, read on into those that follow it.

Ranks that share a lane read its blocks each for themselves. Damage in the store they all find. If only one rank's copy
is damaged, that one delivers stand-ins at its positions and the others their rows: still each position once, and equal
steps; the damage is in that rank's state alone, and the others, given another's state, find or do not find it anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from datapipe.errors import DatapipeError, LoaderError
from datapipe.loader.bijection import Bijection, derive_key
from datapipe.loader.quarantine import is_damage
from datapipe.loader.values import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from datapipe.loader.block import Block
    from datapipe.loader.lengths import Lengths
    from datapipe.loader.quarantine import Quarantine
    from datapipe.loader.sequence import EpochSequence

    Ints = npt.NDArray[np.int64]
    Build = Callable[[pa.Table], Block]


@final
class Substitutes:
    """The stand-ins of one epoch; threads share it.

    Args:
        data: the dataset that is read. walk: the epoch's order, for its lanes.
        lengths: of rows, where batches are planned by them. packed: rows are packed.
        shuffled: the stand-in is chosen by chance, keyed by the seed.
    """

    def __init__(
        self,
        quarantine: Quarantine,
        data: Any,
        walk: EpochSequence,
        *,
        epoch: int,
        seed: int,
        shuffled: bool,
        lengths: Lengths | None,
        packed: bool,
    ) -> None:
        self._quarantine = quarantine
        self._data = data
        self._walk = walk
        self._epoch = epoch
        self._seed = seed
        self._shuffled = shuffled
        self._lengths = lengths
        self._packed = packed
        self._real: dict[int, tuple[int, Ints]] = {}

    def holds(self, block: int) -> bool:
        """Whether a block is known to be bad in this epoch."""
        return self._quarantine.holds(self._epoch, block)

    def checked(self, block: int, error: DatapipeError, build: Build) -> Block:
        """A block that could not be read: as it is read once more from the store, or else what stands in for it.

        Args:
            build: makes a block of a table, or refuses it.

        Raises:
            DatapipeError: what went wrong was not the rows; too many are bad; there is nothing to stand in.
        """
        if not is_damage(error):
            raise error
        try:
            return build(self._anew(block))
        except DatapipeError as again:
            if not is_damage(again):
                raise
            self._quarantine.add(self._epoch, block, self._lane(block), again)
        return self.stand_in(block, build)

    def stand_in(self, block: int, build: Build) -> Block:
        """What stands in for a bad block."""
        for other in self._candidates(block):
            if self._quarantine.holds(self._epoch, other):
                continue
            found = self._fitted(block, other, build)
            if found is not None:
                table, rows = found
                made = build(table)
                self._real[block] = other, rows
                return made
        group = self._data.row_groups[block]
        raise LoaderError(
            f"shard {group.path}, row group {group.group} is bad, and no other of its lane can stand in for it",
            expected="a good row group in each lane",
            fix="run `datapipe verify`; make the dataset of smaller row groups, or lanes=1",
        )

    def real(self, blocks: Ints, rows: Ints) -> tuple[Ints, Ints]:
        """Rows as the order names them → the rows that were delivered: int64[n] each."""
        for block, (other, stand_ins) in list(self._real.items()):
            at = np.flatnonzero(blocks == block)
            if len(at):
                blocks, rows = blocks.copy(), rows.copy()
                blocks[at], rows[at] = other, stand_ins[rows[at]]
        return blocks, rows

    def _anew(self, block: int) -> pa.Table:
        fetch = getattr(self._data, "fetch_anew", self._data.fetch)
        table: pa.Table = fetch(block).decode()
        return table

    def _lane(self, block: int) -> Ints:
        for blocks in self._walk.blocks:
            if (blocks == block).any():
                return np.unique(blocks)  # in a mix a lane goes through its blocks several times
        raise LoaderError(f"row group {block} is in no lane of epoch {self._epoch}")

    def _candidates(self, block: int) -> Iterator[int]:
        """The other blocks of its lane, in the order in which they are asked to stand in."""
        lane = self._lane(block)
        others = np.concatenate([lane[lane > block], lane[lane < block]])
        if self._shuffled and len(others):
            key = derive_key("stand-in-1", self._data.fingerprint, self._seed, self._epoch, block)
            others = others[Bijection(len(others), key).forward(np.arange(len(others)))]
        yield from others.tolist()

    def _fitted(self, block: int, other: int, build: Build) -> tuple[pa.Table, Ints] | None:
        """The rows of `other` for those of `block`, and which they are; None: it is bad as well, or has no token."""
        try:
            table: pa.Table = self._data.fetch(other).decode()
            build(table)
        except DatapipeError as error:
            if not is_damage(error):
                raise
            try:
                table = self._anew(other)
                build(table)
            except DatapipeError as again:
                if not is_damage(again):
                    raise
                self._quarantine.add(self._epoch, other, self._lane(other), again)
                return None
        wanted, there = int(self._data.index.rows[block]), table.num_rows
        if self._lengths is None:
            rows = np.arange(wanted) % there
        elif self._packed:
            return _cut(table, self._lengths.of(block))
        else:
            rows = _by_length(self._lengths.of(block), self._lengths.of(other))
        return table.take(pa.array(rows)), rows


def _by_length(wanted: Ints, there: Ints) -> Ints:
    """For each row wanted one of those there, of a like place among its block's lengths, and no longer if that can be.

    Args:
        wanted, there: int64[n], int64[m]: lengths.

    Returns:
        int64[n], each in [0, m).
    """
    order = np.argsort(there, kind="stable")
    place = np.empty(len(wanted), np.int64)
    place[np.argsort(wanted, kind="stable")] = np.arange(len(wanted)) * len(there) // max(1, len(wanted))
    most = np.searchsorted(there[order], wanted, side="right") - 1
    found: Ints = order[np.maximum(np.minimum(place, most), 0)]
    return found


def _cut(table: pa.Table, wanted: Ints) -> tuple[pa.Table, Ints] | None:
    """Rows of lists of exactly the lengths wanted: row i begins at row i mod m and reads on into those that follow."""
    rows = np.arange(len(wanted)) % table.num_rows
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(wanted)])
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], wanted)
    columns: dict[str, pa.Array] = {}
    for name in table.column_names:
        lists = plain(pa.concat_arrays(table.column(name).chunks))
        lengths = pc.fill_null(lists.value_lengths(), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        total = int(lengths.sum())
        if not total and offsets[-1]:
            return None
        begin = (np.cumsum(lengths) - lengths)[rows]
        values = lists.flatten().take(pa.array((np.repeat(begin, wanted) + within) % max(1, total)))
        kind = pa.LargeListArray if pt.is_large_list(lists.type) or offsets[-1] >= 1 << 31 else pa.ListArray
        width = pa.int64() if kind is pa.LargeListArray else pa.int32()
        columns[name] = kind.from_arrays(pa.array(offsets, width), values)
    return pa.table(columns), rows
