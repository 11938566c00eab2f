"""A transform that holds the interpreter lock: in threads, in processes, and what handing a batch over costs.

    nice python benchmarks/loaders/processes.py [FOLDER]

One run, interleaved, medians of five epochs after one to warm up; every row is checked to be delivered exactly once.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import datapipe

REPEATS, WORK_S = 5, 0.005


def hold_lock(batch):
    """5 ms of this thread's CPU time in pure Python."""
    end = time.thread_time() + WORK_S
    while time.thread_time() < end:
        pass
    return batch


def nothing(batch):
    return batch


def write(folder, rows, width):
    folder.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).random(rows * width, np.float32)
    x = pa.FixedSizeListArray.from_arrays(pa.array(values), width)
    pq.write_table(pa.table({"id": np.arange(rows), "x": x}), folder / "a.parquet", row_group_size=max(1, rows // 16))
    return datapipe.open_dataset(folder)


def epoch_ms(loader, rows):
    """Milliseconds per batch, the first one apart."""
    batches = iter(loader)
    seen = [next(batches)["id"].copy()]
    began = time.perf_counter()
    seen += [batch["id"].copy() for batch in batches]
    took = time.perf_counter() - began
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(rows))
    return 1e3 * took / (len(seen) - 1)


def compare(name, data, batch_size, transform):
    rows = data.num_rows
    kinds = {"thread": {}, "process": {}}
    loaders = {
        kind: datapipe.DataLoader(
            data, batch_size, transform=transform, workers=kind, num_threads=2, collate="numpy", seed=1
        )
        for kind in kinds
    }
    times = {kind: [] for kind in kinds}
    for repeat in range(REPEATS + 1):
        for kind, loader in loaders.items():
            took = epoch_ms(loader, rows)
            if repeat:
                times[kind].append(took)
    for loader in loaders.values():
        loader.close()
    thread, process = (statistics.median(times[kind]) for kind in kinds)
    print(f"{name:40} threads {thread:7.2f}  processes {process:7.2f} ms a batch  {thread / process:5.2f}x", flush=True)


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    small = write(folder / "small", 9600, 64)
    compare("5 ms of Python, 32 x 64 float32", small, 32, hold_lock)
    compare("nothing, 32 x 64 float32 (8 kB)", small, 32, nothing)
    compare("nothing, 64 x 16384 float32 (4 MB)", write(folder / "large", 6400, 16384), 64, nothing)


if __name__ == "__main__":
    main()
