"""Epochs from the cache beside local Arrow, Parquet without a cache, and a memmap gather: packed tokens, one machine.

    python benchmarks/loaders/cache.py --rows 20000 --repeats 5

Every contender runs one epoch per round, in turn; each epoch is checked (every row number once, by their sum and the
sum of their squares) and the medians are printed as rates and as shares of the memmap gather. The page cache is warm.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import datapipe

WIDTH, BATCH, GROUP = 2048, 32, 1000


def corpus(folder: Path, rows: int) -> None:
    """The same rows as zstd Parquet, as Arrow and as a memmap; the first token of a row is its number."""
    generator = np.random.default_rng(0)
    tokens = (generator.zipf(1.2, (rows, WIDTH)) % 50_000).astype(np.int32)
    tokens[:, 0] = np.arange(rows)
    tokens.tofile(folder / "tokens.bin")
    table = pa.table({"tokens": pa.FixedSizeListArray.from_arrays(pa.array(tokens.ravel()), WIDTH)})
    pq.write_table(table, folder / "tokens.parquet", compression="zstd", row_group_size=GROUP)
    with pa.ipc.new_file(folder / "tokens.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=GROUP)


def check(numbers: list[np.ndarray], rows: int) -> None:
    """Every full batch's rows, each once."""
    seen = np.sort(np.concatenate(numbers))
    assert len(seen) == rows // BATCH * BATCH, f"{len(seen)} rows"
    assert (np.diff(seen) > 0).all(), "a row came twice"


def memmap_epoch(folder: Path, rows: int, epoch: int) -> float:
    """A gather into a reused buffer: the bound."""
    tokens = np.memmap(folder / "tokens.bin", np.int32, "r", shape=(rows, WIDTH))
    out, numbers = np.empty((BATCH, WIDTH), np.int64), []
    start = time.perf_counter()
    order = np.random.default_rng(epoch).permutation(rows)
    for at in range(0, rows - BATCH + 1, BATCH):
        out[:] = tokens[order[at : at + BATCH]]
        numbers.append(out[:, 0].copy())
    took = time.perf_counter() - start
    check(numbers, rows)
    return took


def loader_epoch(dataset: datapipe.Dataset, rows: int, epoch: int, prefetch: int | None) -> float:
    """One epoch, from the making of the loader to its end: what it would read ahead of the next one is not given."""
    numbers = []
    start = time.perf_counter()
    with datapipe.DataLoader(dataset, BATCH, prefetch=prefetch, collate="numpy") as loader:
        loader.set_epoch(epoch)
        for batch in loader:
            numbers.append(batch["tokens"][:, 0].copy())
            if len(numbers) == rows // BATCH:
                took = time.perf_counter() - start
    check(numbers, rows)
    return took


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus(folder, options.rows)
        caches = {
            "cache, decoded": datapipe.Cache(folder / "decoded", "10 GB"),
            "cache, decoded, always checked": datapipe.Cache(folder / "always", "10 GB", verify="always"),
            "cache, raw": datapipe.Cache(folder / "raw", "10 GB", content="raw"),
        }
        made = {}
        for label, cache in caches.items():
            made[label] = datapipe.open_dataset(folder / "tokens.parquet", cache=cache)
            print(f"first epoch, {label}: {loader_epoch(made[label], options.rows, 0, 0):.3f} s", flush=True)
        made |= {kind: datapipe.open_dataset(folder / f"tokens.{kind}") for kind in ("arrow", "parquet")}
        times: dict[str, list[float]] = {"memmap gather": []}
        for epoch in range(1, options.repeats + 1):
            times["memmap gather"].append(memmap_epoch(folder, options.rows, epoch))
            for prefetch, how in ((0, "prefetch=0"), (None, "threads")):
                for label, dataset in made.items():
                    took = loader_epoch(dataset, options.rows, epoch, prefetch)
                    times.setdefault(f"{label}, {how}", []).append(took)
        bound = statistics.median(times["memmap gather"])
        print(f"| {'':42} | rows/s | of the gather | spread |\n|---|---:|---:|---|")
        for label, each in times.items():
            median = statistics.median(each)
            spread = f"{min(each):.3f} to {max(each):.3f} s"
            print(f"| {label:42} | {options.rows / median:,.0f} | {bound / median:.2f} | {spread} |")


if __name__ == "__main__":
    main()
