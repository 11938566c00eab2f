"""Views by snapshot: what was there at one, and what has been added since.

What enters: a dataset, the number of a snapshot. What leaves: a range of its blocks. Invariant: an appended snapshot
has the blocks of the one before, in their order, before its own; where that does not hold (rows were erased, or a
snapshot rolled back), the view is refused and nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from datapipe.dataset.manifest import content_fingerprint
from datapipe.dataset.snapshots import read_snapshot
from datapipe.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.dataset.index import DatasetIndex
    from datapipe.dataset.manifest import Manifest
    from datapipe.dataset.reader import Dataset


@dataclass(frozen=True, kw_only=True)
class Part:
    """Blocks [low, high) of a dataset; `rows_before`: how many rows those before them have."""

    low: int
    high: int
    rows_before: int


def blocks_of(dataset: Dataset, snapshot: int) -> int:
    """How many of the dataset's blocks a snapshot has: its first ones.

    Raises:
        DatasetError: the dataset has no snapshots, or no such one, or the snapshot's blocks are not its first.
    """
    if dataset.manifest is None:
        raise DatasetError(f"{dataset.url} has no snapshots", expected="a dataset with a manifest")
    old = read_snapshot(dataset.store, snapshot)
    blocks = [rows for shard in dataset.manifest.shards for rows in shard.row_groups.rows]
    own = [rows for shard in old.shards for rows in shard.row_groups.rows]
    pairs = zip_longest(_names(old), _names(dataset.manifest))
    begins = all(mine is None or mine == theirs for mine, theirs in pairs)
    if not begins or blocks[: len(own)] != own:
        raise DatasetError(
            f"{dataset.url}: snapshot {snapshot} is not what snapshot {dataset.manifest.snapshot} was added to",
            expected="a snapshot whose rows are its first",
            fix="rows were erased, or rolled back, in between: open the snapshots by number, each for itself",
        )
    return len(own)


def _names(manifest: Manifest) -> Iterator[tuple[int, str]]:
    return ((part.rows, part.content or part.checksum.value) for part in manifest.parts)


def sliced(index: DatasetIndex, part: Part | None, low: int | None, high: int | None) -> tuple[Part, DatasetIndex]:
    """A part of what a view has.

    Args:
        index: of what the view (`part`; None: the whole dataset) has. low, high: blocks of the whole dataset.
    """
    before = part or Part(low=0, high=len(index), rows_before=0)
    begin = min(max(before.low, 0 if low is None else low), before.high)
    end = max(begin, min(before.high, before.high if high is None else high))
    cut = slice(begin - before.low, end - before.low)
    rows = index.rows[cut]
    made = Part(low=begin, high=end, rows_before=before.rows_before + int(index.first[begin - before.low]))
    return made, replace(
        index,
        shard=index.shard[cut],
        group=index.group[cut],
        rows=rows,
        bytes=index.bytes[cut],
        tokens=None if index.tokens is None else index.tokens[cut],
        first=np.concatenate([np.zeros(1, np.int64), np.cumsum(rows)]),
    )


def part_name(dataset: Dataset, part: Part) -> str:
    """The fingerprint of a view, without its filter: of one from the start that of its content as a snapshot had it."""
    import xxhash

    manifest = dataset.manifest
    assert manifest is not None
    rows = [n for shard in manifest.shards for n in shard.row_groups.rows]
    until = sum(rows[: part.high])
    held, parts = 0, []
    for each in manifest.parts:
        if held >= until:
            break
        parts.append(each)
        held += each.rows
    assert held == until  # a snapshot begins and ends between two shards, as they were first written
    name = content_fingerprint(manifest.schema, tuple(parts))  # type: ignore[arg-type]  # all of one of the two types
    if not part.low:
        return name
    return f"dp1-{xxhash.xxh3_128_hexdigest(f'since-1|{name}|{part.rows_before}'.encode())}"


def found(dataset: Dataset, fingerprint: str) -> Dataset | None:
    """The newest snapshot of that name (of the content and the filter): same columns; None: there is none any more."""
    from datapipe.dataset.snapshots import snapshot_paths

    if dataset.manifest is None or dataset.part is not None:
        return None
    newest = read_snapshot(dataset.store)
    for number in sorted({*snapshot_paths(dataset.store), newest.snapshot}, reverse=True):
        try:
            other = dataset.at(number)
        except DatasetError:
            continue  # expired since it was listed
        if other.fingerprint == fingerprint:
            return other
    return None
