"""What the order costs: start-up on 10^9 rows, a stretch, `state_dict()`; how well the default window shuffles.

    python benchmarks/order.py [DATASET]

Row counts alone, no data: 100 and 100,000 row groups of 10,000 rows. With a dataset of documents (a column `tokens`,
and `n_tokens` or not) also what packing it takes and wastes. Best of five; shuffle quality beside that of a uniform
permutation.
"""

from __future__ import annotations

import sys
import tempfile
import timeit
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datapipe import DataLoader, Pack, open_dataset
from datapipe.loader.epoch_plan import shuffle_quality
from datapipe.loader.geometry import choose_geometry
from datapipe.loader.order import Order
from datapipe.loader.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 10_000
ROW_BYTES = 2000


def best(call: Callable[[], object], number: int = 1) -> float:
    """Seconds of a call, the best of five rounds."""
    return min(timeit.repeat(call, number=number, repeat=5)) / number


def make(groups: int) -> Order:
    """The order of so many row groups, as `DataLoader` makes it by default."""
    rows = np.full(groups, ROWS, np.int64)
    geometry = choose_geometry(rows, rows * ROW_BYTES, shuffle=True)
    return Order(
        fingerprint="x", seed=0, rows=rows, geometry=geometry, global_batch=256, tail="drop", shuffle=True
    )  # fmt: skip


def order(groups: int) -> None:
    """Start-up, one stretch, and shuffle quality."""
    started = best(lambda: Schedule(make(groups).epoch(0), rank=0, world_size=1).next())
    schedule = Schedule(make(groups).epoch(0), rank=0, world_size=1)
    stretch = best(schedule.next, 20)
    displacement, neighbours = shuffle_quality(make(groups))
    n = min(groups * ROWS, 1_000_000)
    uniform = np.random.default_rng(0).permutation(n)
    moved = np.abs(uniform - np.arange(n)).mean() / (n / 3)
    print(
        f"{groups:,} row groups: start-up and first stretch {started * 1e3:.1f} ms, {stretch / 32 * 1e6:.0f} µs a batch"
    )
    print(f"  displacement {displacement:.3f} (uniform {moved:.3f})")
    print(f"  neighbours {neighbours:.6f} (uniform {(np.diff(uniform) == 1).mean():.6f})")


def state() -> None:
    """`state_dict()`, of rows and of bins, eight lanes."""
    tokens = pa.array([np.arange(1 + i % 50) for i in range(4000)], pa.list_(pa.int32()))
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.table({"tokens": tokens}), f"{folder}/a.parquet", row_group_size=100)
        dataset = open_dataset(folder)
        for name, options in (("rows", {}), ("bins", {"pack": Pack(128)})):
            loader = DataLoader(dataset, 4, lanes=8, prefetch=0, collate="numpy", **options)
            batches = iter(loader)
            next(batches)
            print(f"state_dict(), {name}: {best(loader.state_dict, 1000) * 1e6:.1f} µs")
            loader.close()


def packing(url: str) -> None:
    """Waste, and how long planning takes."""
    dataset = open_dataset(url)
    for seq_len in (512, 2048, 8192):
        options = {"pack": Pack(seq_len), "tail": "partial", "collate": "numpy"}
        planned = best(lambda: len(DataLoader(dataset, 8, **options)))  # noqa: B023
        with DataLoader(dataset, 8, **options) as loader:
            took = best(lambda: sum(1 for _ in loader))
            counted = loader.stats()
        tokens, places = counted["tokens"] // 5, counted["places"] // 5
        print(
            f"packed to {seq_len:>5,}: {1 - tokens / places:.3%} padding, {tokens / took / 1e6:.0f}M tokens/s,"
            f" planned {len(dataset):,} documents in {planned * 1e3:.0f} ms"
        )


if __name__ == "__main__":
    for groups in (100, 100_000):
        order(groups)
    state()
    for url in sys.argv[1:]:
        packing(url)
