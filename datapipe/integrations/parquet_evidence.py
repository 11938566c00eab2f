"""Which column, codec, row group and shard of a dataset cost what: evidence for a report's advice.

What enters: an opened dataset, after its run. What leaves: lines for a person.
Invariant: the dataset is read only, a few row groups of it within a budget of time; whatever cannot be read is no
evidence, and no error.

Each column is fetched and decoded alone, of one row group in the middle of the dataset, three to twelve times; the
fastest counts, so that what is told is the file's cost (its encoding and codec) and neither the disk's nor the
machine's load. After its first three the columns take turns, so that one is not read while the machine was busier.
Sizes and codecs are the footer's, as `pyarrow` reads it; where the file is not on this machine, they are left out.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import DatapipeError

if TYPE_CHECKING:
    from collections.abc import Callable

BUDGET: Final = 1.0
"""Seconds that reading may take in all, but for one column."""
_SHOWN: Final = 4
_ROUNDS: Final = 3
_TURNS: Final = 9
_LARGE: Final = 2.0
"""A row group or shard this many times as large as the median is worth a line."""


def parquet_evidence(
    dataset: Any, *, budget: float = BUDGET, clock: Callable[[], int] = time.perf_counter_ns
) -> tuple[str, ...]:
    """What the files of a dataset cost to read, a line each; () where it cannot be told.

    Args:
        dataset: from `datapipe.open_dataset`; anything else has no evidence.
        budget: seconds.
        clock: ns.
    """
    try:
        if not hasattr(dataset, "row_groups") or not len(dataset.index):
            return ()
        return (*_columns(dataset, budget, clock), *_blocks(dataset))
    except (DatapipeError, OSError, ValueError):
        return ()


def _columns(dataset: Any, budget: float, clock: Callable[[], int]) -> tuple[str, ...]:
    """The columns that take most of decoding."""
    block = len(dataset.index) // 2
    began = clock()
    taken: dict[str, int] = {}

    def take(name: str, one: Any) -> None:
        start = clock()
        one.fetch(block).decode()
        once = clock() - start
        taken[name] = min(taken.get(name, once), once)

    columns = {}
    for name in dataset.columns:
        if taken and clock() - began > budget * 1e9:
            break
        columns[name] = dataset.select([name])
        for _ in range(_ROUNDS):
            take(name, columns[name])
    for name, one in list(columns.items()) * _TURNS:
        if clock() - began > budget * 1e9:
            break
        take(name, one)
    whole = sum(taken.values()) or 1
    stored = _stored(dataset, block)
    lines = []
    for name, ns in sorted(taken.items(), key=lambda pair: -pair[1])[:_SHOWN]:
        rows = int(dataset.index.rows[block])
        said = f"Column {name}: {ns / whole:.0%} of decoding ({ns / 1e6:.2f} ms for a row group of {rows:,} rows"
        lines.append(said + (f"; {stored[name]})." if name in stored else ")."))
    if len(taken) < len(dataset.columns):
        lines.append(f"Only {len(taken)} of {len(dataset.columns)} columns were timed.")
    return tuple(lines)


def _stored(dataset: Any, block: int) -> dict[str, str]:
    """Column → its stored size, ratio and codec in one row group, where the footer is at hand."""
    import pyarrow.parquet as pq

    shard = int(dataset.index.shard[block])
    path = Path(str(dataset.url).removeprefix("file://"))
    path = path / dataset.index.paths[shard] if path.is_dir() else path
    if dataset.index.formats[shard] != "parquet" or not path.is_file():
        return {}
    group = pq.read_metadata(path).row_group(int(dataset.index.group[block]))
    sizes: dict[str, list[Any]] = {}
    for at in range(group.num_columns):
        chunk = group.column(at)
        sizes.setdefault(chunk.path_in_schema.split(".")[0], []).append(chunk)
    said = {}
    for name, chunks in sizes.items():
        small = sum(chunk.total_compressed_size for chunk in chunks)
        large = sum(chunk.total_uncompressed_size for chunk in chunks)
        codecs = "+".join(sorted({chunk.compression.lower() for chunk in chunks}))
        said[name] = f"{small / 1e3:,.0f} kB, {large / max(1, small):.1f}× by {codecs}"
    return said


def _blocks(dataset: Any) -> tuple[str, ...]:
    """Row groups and shards that stand out by their size."""
    import numpy as np

    index = dataset.index
    sizes = np.asarray(index.bytes, dtype=float)
    shards = np.bincount(index.shard, weights=sizes, minlength=len(index.paths))
    groups = "1 row group" if len(sizes) == 1 else f"{len(sizes):,} row groups"
    files = "1 shard" if len(shards) == 1 else f"{len(shards):,} shards"
    lines = [f"{groups} of {np.median(sizes) / 1e6:,.2f} MB (median, decoded) in {files}."]
    if sizes.max() > _LARGE * np.median(sizes):
        at = int(sizes.argmax())
        path, times = index.paths[int(index.shard[at])], sizes[at] / np.median(sizes)
        lines.append(f"The largest row group, {int(index.group[at])} of {path}, has {times:.1f}× the median's bytes.")
    if shards.max() > _LARGE * np.median(shards):
        at = int(shards.argmax())
        lines.append(
            f"The largest shard, {index.paths[at]}, has {shards[at] / np.median(shards):.1f}× the median's bytes."
        )
    return tuple(lines)
