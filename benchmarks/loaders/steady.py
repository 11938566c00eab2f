"""What must stay as it is: memory over 50 epochs, cost per row from 10^5 to 10^9 rows, the first batch, two threads.

    python benchmarks/loaders/steady.py                    packed tokens, 100,000 x 2048: 3 to 6 minutes
    python benchmarks/loaders/steady.py --quick            4,000 x 128, to see that it runs
    python benchmarks/loaders/steady.py --only memory      one of: memory, rows, first, threads

What enters: the corpus of `tokens.py`. What leaves: a line for each promise, with what was measured and what was
promised; it judges and does not fail, for on a busy machine it is the neighbours that are measured. Each part runs in
processes of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent))
from harness import machine
from tokens import BATCH, Corpus, make_corpus

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCHS = 50
BUDGET = 256 << 20
FIRST_S = 0.3
REPEATS = 7
ROWS_PER_GROUP = 10_000
WIDTH = 16
SYNTHETIC = (10**5, 10**6, 10**7, 10**8, 10**9)


def anonymous() -> float:
    """MB of this process that no file backs, now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


def memory(corpus: Corpus, *, quick: bool) -> dict[str, Any]:
    """The most memory in each of 50 epochs of Parquet, looked at every 10 ms."""
    from datapipe import DataLoader, open_dataset

    most = [0.0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            most[0] = max(most[0], anonymous())

    data = open_dataset(str(corpus.folder / "parquet"))
    began = anonymous()
    watcher = threading.Thread(target=watch)
    watcher.start()
    epochs = []
    with DataLoader(data, BATCH, memory_budget=BUDGET, collate="numpy") as loader:
        for _ in range(4 if quick else EPOCHS):
            rows = sum(len(batch["tokens"]) for batch in loader)
            if rows != corpus.rows // BATCH * BATCH:
                raise ValueError(f"{rows} rows in an epoch")
            epochs.append(most[0])
            most[0] = anonymous()
    over.set()
    watcher.join()
    return {"began": began, "epochs": epochs}


@dataclass(frozen=True, kw_only=True)
class Made:
    """A row group that is in memory already."""

    table: pa.Table

    @property
    def nbytes(self) -> int:
        return int(self.table.nbytes)

    def decode(self) -> pa.Table:
        return self.table


class Synthetic:
    """A dataset of any number of row groups, all of which are the same one in memory: what differs is the index."""

    def __init__(self, rows: int) -> None:
        from datapipe.dataset.index import DatasetIndex

        values = np.arange(ROWS_PER_GROUP * WIDTH, dtype=np.int32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(values), WIDTH)
        self._group = Made(table=pa.table({"x": column}))
        groups = rows // ROWS_PER_GROUP
        each = np.full(groups, ROWS_PER_GROUP, np.int64)
        self.index = DatasetIndex(
            paths=("synthetic",), formats=("arrow",), shard=np.zeros(groups, np.int32),
            group=np.arange(groups, dtype=np.int32), rows=each, bytes=each * (WIDTH * 4), tokens=None,
            first=np.arange(groups + 1, dtype=np.int64) * ROWS_PER_GROUP,
        )  # fmt: skip
        self.schema = self._group.table.schema
        self.fingerprint = f"synthetic-{rows}"

    def __len__(self) -> int:
        return int(self.index.first[-1])

    def fetch(self, number: int) -> Made:
        del number
        return self._group


def rows(corpus: Corpus, *, quick: bool) -> dict[str, Any]:
    """CPU ns a row, inline, of the same number of rows of ever larger datasets, and the time to the first batch."""
    from datapipe import DataLoader

    del corpus
    batches = 60 if quick else 380  # of 256: within the smallest
    loaders: dict[int, Any] = {}
    found: dict[str, Any] = {}
    for size in SYNTHETIC:
        data = Synthetic(size)
        began = time.perf_counter()
        # One geometry for all, or a dataset of few row groups would be given fewer lanes.
        loaders[size] = DataLoader(data, 256, prefetch=0, lanes=2, window=4, collate="numpy")  # type: ignore[arg-type]
        next(iter(loaders[size]))
        found[f"start {size}"] = time.perf_counter() - began
    costs: dict[int, list[float]] = {size: [] for size in SYNTHETIC}
    for _ in range(3 if quick else 15):
        for size, loader in loaders.items():
            iterator = iter(loader)
            next(iterator)
            began_cpu = time.thread_time()
            for _ in range(batches):
                next(iterator)
            costs[size].append((time.thread_time() - began_cpu) / (batches * 256) * 1e9)
    return found | {str(size): min(each) for size, each in costs.items()}


def first(corpus: Corpus, *, quick: bool) -> dict[str, Any]:
    """Seconds from a loader's construction to its first batch, in a new process for each."""
    found: dict[str, Any] = {}
    for form in ("arrow", "parquet"):
        times = []
        for _ in range(2 if quick else REPEATS):
            command = [sys.executable, __file__, "--serve", f"once-{form}", "--folder", str(corpus.folder.parent)]
            done = subprocess.run([*command, *["--quick"] * quick], capture_output=True, text=True, check=True)
            times.append(json.loads(done.stdout)["seconds"])
        found[form] = times
    return found


def once(form: str) -> Callable[..., dict[str, Any]]:
    def measure(corpus: Corpus, *, quick: bool) -> dict[str, Any]:
        from datapipe import DataLoader, open_dataset

        del quick
        data = open_dataset(str(corpus.folder / form))
        with DataLoader(data, BATCH) as loader:
            began = time.perf_counter()
            next(iter(loader))
            return {"seconds": time.perf_counter() - began}

    return measure


def threads(corpus: Corpus, *, quick: bool) -> dict[str, Any]:
    """Seconds for an epoch of Parquet, inline, with one thread beside the consumer, and with two; taking turns."""
    from datapipe import DataLoader, open_dataset

    data = open_dataset(str(corpus.folder / "parquet"))
    kinds: dict[str, dict[str, Any]] = {
        "inline": {"prefetch": 0},
        "one": {"num_threads": 1},
        "two": {"num_threads": 2},
    }
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for repeat in range(2 if quick else 6):
        for kind, options in kinds.items():
            with DataLoader(data, BATCH, seed=repeat, collate="numpy", autotune=False, **options) as loader:
                began = time.perf_counter()
                for _ in loader:
                    pass
                if repeat:
                    found[kind].append(time.perf_counter() - began)
    return dict(found)


PARTS: dict[str, Callable[..., dict[str, Any]]] = {"memory": memory, "rows": rows, "first": first, "threads": threads}


def say(part: str, found: dict[str, Any]) -> list[str]:
    """Lines of a table: what was promised, what was measured."""
    if part == "memory":
        epochs, most = found["epochs"], max(found["epochs"])
        limit = (1.2 * BUDGET + 200e6) / (1 << 20)
        tenth = max(1, len(epochs) // 5)
        early = statistics.mean(epochs[tenth : 2 * tenth])
        late = statistics.mean(epochs[-tenth:])
        return [
            (
                f"| memory, budget {BUDGET >> 20} MiB, Parquet, {len(epochs)} epochs: the most, MiB"
                f" | {most:.0f}, of it {found['began']:.0f} before | {limit:.0f} |"
            ),
            f"| the most of an epoch, early and late, MiB | {early:.0f}, {late:.0f} | no growth |",
        ]
    if part == "rows":
        costs = {size: found[str(size)] for size in SYNTHETIC}
        told = ", ".join(f"{cost:.0f}" for cost in costs.values())
        spread = max(costs.values()) / min(costs.values()) - 1
        return [
            f"| CPU ns a row, 10^5 to 10^9 rows | {told} (spread {spread:.0%}) | 10% |",
            f"| from construction to the first batch, 10^9 rows | {found[f'start {SYNTHETIC[-1]}']:.2f} s | 1 s |",
        ]
    if part == "first":
        return [
            f"| first batch after construction, local {form}, s, median of {len(times)}"
            f" | {statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f}) | {FIRST_S} |"
            for form, times in found.items()
        ]
    middle = {kind: statistics.median(times) for kind, times in found.items()}
    return [
        f"| two threads against none (decoding on the consumer's) | {middle['inline'] / middle['two']:.2f} x | 1.7 |",
        f"| two threads against one that a waiting consumer helps | {middle['one'] / middle['two']:.2f} x | |",
    ]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "datapipe-benchmarks")
    parser.add_argument("--only", action="append", choices=list(PARTS))
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    corpus = make_corpus(given.folder, given.quick)
    if given.serve:
        served = PARTS | {f"once-{form}": once(form) for form in ("arrow", "parquet")}
        print(json.dumps(served[given.serve](corpus, quick=given.quick)))
        return
    print(f"{corpus.rows:,} x {corpus.length:,} int32; {machine(())}; page cache warm.\n")
    print("| what | measured | promised |\n|---|---|---|")
    for part in given.only or PARTS:
        command = [sys.executable, __file__, "--serve", part, "--folder", str(given.folder)]
        done = subprocess.run([*command, *["--quick"] * given.quick], stdout=subprocess.PIPE, text=True, check=True)
        print("\n".join(say(part, json.loads(done.stdout))), flush=True)


if __name__ == "__main__":
    main()
