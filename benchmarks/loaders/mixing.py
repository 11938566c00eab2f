"""What mixing costs: one dataset against a mix of two, of wide rows and of the narrowest, in CPU time, interleaved.

    python benchmarks/loaders/mixing.py FOLDER

FOLDER takes the data (200 MB, made on the first run). That no row of the longer source comes twice is checked.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

import datapipe

TURNS = 7


def make(folder: Path, rows: int, width: int, group: int) -> datapipe.Dataset:
    """Rows of `width` int32, their number in the first place."""
    if not folder.exists():
        folder.mkdir(parents=True)
        values = np.zeros((rows, width), np.int32)
        values[:, 0] = np.arange(rows)
        flat = pa.array(values.ravel())
        table = pa.table({"x": pa.FixedSizeListArray.from_arrays(flat, width) if width > 1 else flat})
        with pa.OSFile(str(folder / "data.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            for batch in table.to_batches(max_chunksize=group):
                writer.write_batch(batch)
    return datapipe.open_dataset(folder)


def epoch(data: object, batch_size: int, prefetch: int) -> tuple[float, np.ndarray]:
    """Rows per CPU second of one epoch, and the rows' numbers."""
    with datapipe.DataLoader(data, batch_size, rank=0, world_size=1, collate="numpy", prefetch=prefetch) as loader:
        seen = []
        start = time.process_time()
        for batch in loader:
            seen.append(batch["x"].reshape(len(batch["x"]), -1)[:, 0].copy())  # noqa: PERF401  (timed as a loop)
        spent = time.process_time() - start
    rows = np.concatenate(seen)
    return len(rows) / spent, rows


def main(folder: Path) -> None:
    """Print one line per width and prefetch."""
    for width, rows, batch_size, group in ((2048, 20_000, 32, 500), (1, 4_000_000, 1024, 20_000)):
        parts = int(rows * 0.7), int(rows * 0.3)
        one, two = (make(folder / f"{width}-{part}", part, width, group) for part in parts)
        mixed = datapipe.mix({"a": one, "b": two}, {"a": 0.7, "b": 0.3})
        for prefetch in (0, 4):
            alone, both = [], []
            for _ in range(TURNS):
                alone.append(epoch(one, batch_size, prefetch)[0])
                rate, numbers = epoch(mixed, batch_size, prefetch)
                both.append(rate)
                times = np.bincount(numbers, minlength=parts[0])
                assert times[parts[1] :].max() <= 1, "a row of the longer source came twice"
                assert abs(len(numbers) - rows) <= 2 * batch_size
            one_rate, mix_rate = statistics.median(alone), statistics.median(both)
            extra = 1e6 / mix_rate - 1e6 / one_rate
            print(
                f"rows of {width} int32, prefetch={prefetch}: one dataset {one_rate:,.0f}, mix {mix_rate:,.0f} rows per"
                f" CPU second: {mix_rate / one_rate:.2f}; {extra:.2f} µs more a row"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
