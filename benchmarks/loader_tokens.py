"""Packed tokens from a warm page cache: datapipe beside the bound and beside other loaders, in one run.

What enters: 100,000 rows of 2048 int32 tokens, written once as a memmap, an Arrow file and a Parquet file. What leaves:
shuffled batches int64 [32, 2048], as samples per second and as a share of the bound. Invariant: every contender first
delivers one epoch that is checked (each row exactly once, every token summed); contenders take turns, and the median of
the repeats counts, so that a busy machine slows them alike.

    python benchmarks/loader_tokens.py            the full run: 3 x 820 MB of files, a few minutes
    python benchmarks/loader_tokens.py --quick    the same on 4,000 rows of 128
    python benchmarks/loader_tokens.py --log      … and append the table to benchmarks/LOG.md
"""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import importlib.metadata
import os
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEED = 0
VOCABULARY = 50_257
ROWS_PER_GROUP = 1000


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The same rows in three files. Row i begins with token i, so that deliveries can be told apart."""

    rows: int
    length: int
    batch: int
    folder: Path
    token_sum: int

    @property
    def memmap(self) -> np.ndarray:
        return np.memmap(self.folder / "tokens.bin", np.int32, "r", shape=(self.rows, self.length))

    @property
    def arrow(self) -> str:
        return str(self.folder / "arrow")

    @property
    def parquet(self) -> str:
        return str(self.folder / "parquet")


def make_corpus(folder: Path, rows: int, length: int, batch: int) -> Corpus:
    """Write what is not there yet. The last file to be written marks the corpus as whole."""
    folder = folder / f"tokens-{rows}x{length}-v1"
    done = folder / "sum.txt"
    if not done.exists():
        for name in ("arrow", "parquet"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        flat = np.memmap(folder / "tokens.bin", np.int32, "w+", shape=(rows, length))
        schema = pa.schema([("tokens", pa.list_(pa.int32(), length))])
        rng = np.random.default_rng(SEED)
        total = 0
        with (
            pa.OSFile(str(folder / "arrow" / "tokens.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, schema) as ipc,
            pq.ParquetWriter(
                folder / "parquet" / "tokens.parquet", schema, compression="zstd", use_dictionary=False
            ) as parquet,
        ):
            for start in range(0, rows, ROWS_PER_GROUP):
                part = rng.integers(0, VOCABULARY, (min(ROWS_PER_GROUP, rows - start), length), np.int32)
                part[:, 0] = np.arange(start, start + len(part))
                total += int(part.sum(dtype=np.int64))
                flat[start : start + len(part)] = part
                values = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), length)
                group = pa.record_batch([values], schema=schema)
                ipc.write_batch(group)
                parquet.write_batch(group)
        flat.flush()
        done.write_text(str(total))
    return Corpus(rows=rows, length=length, batch=batch, folder=folder, token_sum=int(done.read_text()))


# ---- contenders: corpus → a function that begins an epoch, each batch an array or tensor int64 [batch, length]


def numpy_gather(corpus: Corpus) -> Callable[[], Iterator[Any]]:
    """The bound: rows at random from a memmap, widened into one buffer that is written over and over."""
    tokens = np.asarray(corpus.memmap)
    out = np.empty((corpus.batch, corpus.length), np.int64)
    narrow = np.empty((corpus.batch, corpus.length), np.int32)
    rng = np.random.default_rng(SEED)

    def epoch() -> Iterator[Any]:
        order = rng.permutation(corpus.rows)
        for start in range(0, corpus.rows, corpus.batch):
            np.take(tokens, order[start : start + corpus.batch], axis=0, out=narrow, mode="clip")
            np.copyto(out, narrow)
            yield out

    return epoch


def datapipe_loader(url: str, **options: Any) -> Callable[[Corpus], Callable[[], Iterator[Any]]]:
    def make(corpus: Corpus) -> Callable[[], Iterator[Any]]:
        from datapipe import DataLoader, open_dataset

        loader = DataLoader(open_dataset(getattr(corpus, url)), corpus.batch, seed=SEED, **options)

        def epoch() -> Iterator[Any]:
            for batch in loader:
                yield batch["tokens"]

        return epoch

    return make


class RowDataset:
    """The plain map-style dataset that a tutorial writes."""

    def __init__(self, corpus: Corpus) -> None:
        import torch

        self._torch = torch
        self.corpus = corpus
        self._tokens = corpus.memmap

    def __len__(self) -> int:
        return self.corpus.rows

    def __getitem__(self, at: int) -> Any:
        return self._torch.from_numpy(self._tokens[at].astype(np.int64))


class BatchDataset(RowDataset):
    """The same with the batched fetch that torch offers."""

    def __getitems__(self, at: list[int]) -> Any:
        return self._torch.from_numpy(self._tokens[at].astype(np.int64))


def as_it_is(batch: Any) -> Any:
    return batch


def torch_loader(dataset: type, workers: int) -> Callable[[Corpus], Callable[[], Iterator[Any]]]:
    def make(corpus: Corpus) -> Callable[[], Iterator[Any]]:
        from torch.utils.data import DataLoader

        collate = as_it_is if dataset is BatchDataset else None
        loader = DataLoader(
            dataset(corpus),  # type: ignore[arg-type]  # by shape, not by inheritance
            batch_size=corpus.batch,
            shuffle=True,
            num_workers=workers,
            collate_fn=collate,
            persistent_workers=workers > 0,
        )
        return lambda: iter(loader)

    return make


def hugging_face(corpus: Corpus) -> Callable[[], Iterator[Any]]:
    """`datasets` over the Parquet file, in its own Arrow cache, shuffled, arrow format, widened in one call."""
    import datasets

    datasets.disable_progress_bars()
    data = datasets.Dataset.from_parquet(
        str(Path(corpus.parquet) / "tokens.parquet"), cache_dir=str(corpus.folder / "huggingface")
    )
    epochs = iter(range(1 << 30))

    def epoch() -> Iterator[Any]:
        shuffled = data.shuffle(seed=next(epochs), keep_in_memory=True).with_format("arrow")
        for table in shuffled.iter(batch_size=corpus.batch):
            values = table.column("tokens").combine_chunks().flatten()
            yield values.to_numpy().astype(np.int64).reshape(table.num_rows, corpus.length)

    return epoch


CONTENDERS: dict[str, Callable[[Corpus], Callable[[], Iterator[Any]]]] = {
    "numpy gather from a memmap into one buffer (the bound)": numpy_gather,
    "datapipe, Arrow, prefetch=0": datapipe_loader("arrow", prefetch=0),
    "datapipe, Arrow, defaults": datapipe_loader("arrow"),
    "datapipe, Parquet, prefetch=0": datapipe_loader("parquet", prefetch=0),
    "datapipe, Parquet, defaults": datapipe_loader("parquet"),
    "torch DataLoader, __getitem__, 0 workers": torch_loader(RowDataset, 0),
    "torch DataLoader, __getitem__, 1 worker": torch_loader(RowDataset, 1),
    "torch DataLoader, __getitem__, 2 workers": torch_loader(RowDataset, 2),
    "torch DataLoader, __getitems__, 0 workers": torch_loader(BatchDataset, 0),
    "torch DataLoader, __getitems__, 1 worker": torch_loader(BatchDataset, 1),
    "torch DataLoader, __getitems__, 2 workers": torch_loader(BatchDataset, 2),
    "Hugging Face datasets, arrow format": hugging_face,
}


def check(corpus: Corpus, epoch: Callable[[], Iterator[Any]]) -> None:
    """One epoch, every batch looked at: int64, each row exactly once, every token there."""
    seen = np.zeros(corpus.rows, np.int64)
    total = 0
    for batch in epoch():
        tokens = np.asarray(batch)
        if tokens.dtype != np.int64 or tokens.shape[1] != corpus.length:
            raise SystemExit(f"delivered {tokens.dtype} {tokens.shape}")
        np.add.at(seen, tokens[:, 0], 1)
        total += int(tokens.sum())
    if (seen != 1).any() or total != corpus.token_sum:
        raise SystemExit(f"{int((seen != 1).sum())} rows not delivered exactly once, or tokens that differ")


def measure(corpus: Corpus, repeats: int, say: Callable[[str], None] = print) -> dict[str, list[float]]:
    """Samples per second of each contender, one number per repeat, contenders taking turns."""
    epochs = {}
    for name, make in CONTENDERS.items():
        epochs[name] = make(corpus)
        check(corpus, epochs[name])
        say(f"checked: {name}")
    rates: dict[str, list[float]] = {name: [] for name in epochs}
    for _ in range(repeats):
        for name, epoch in epochs.items():
            gc.collect()
            batches = 0
            began = time.perf_counter()
            for _batch in epoch():
                batches += 1
            rates[name].append(corpus.rows / (time.perf_counter() - began))
            if batches != corpus.rows // corpus.batch:
                raise SystemExit(f"{name}: {batches} batches")
    return rates


def table(rates: dict[str, list[float]]) -> str:
    """Markdown: medians, shares of the bound, and the spread."""
    bound = statistics.median(next(iter(rates.values())))
    lines = ["| loader | samples/s (median) | of the bound | least to most |", "|---|---:|---:|---:|"]
    for name, each in rates.items():
        middle = statistics.median(each)
        lines.append(f"| {name} | {middle:,.0f} | {middle / bound:.2f} | {min(each):,.0f} to {max(each):,.0f} |")
    return "\n".join(lines)


def machine() -> str:
    """What the numbers hold for."""
    names = ("numpy", "pyarrow", "torch", "datasets")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    model = platform.processor() or platform.machine()
    return (
        f"{os.cpu_count()} cores ({model}), CPU only, page cache warm, Python {platform.python_version()}, {versions}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="4,000 rows of 128 tokens, one repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "datapipe-benchmarks")
    parser.add_argument("--log", action="store_true", help="append the table to benchmarks/LOG.md")
    given = parser.parse_args()
    rows, length, repeats = (4000, 128, 1) if given.quick else (100_000, 2048, given.repeats)
    corpus = make_corpus(given.folder, rows, length, 32)
    text = f"{rows:,} x {length} int32 to int64 [32, {length}], shuffled; {machine()}; median of {repeats}\n\n"
    text += table(measure(corpus, repeats))
    print(text)
    if given.log:
        with (Path(__file__).parent / "LOG.md").open("a") as log:
            log.write(f"\n## {dt.datetime.now(tz=dt.UTC).date()}: packed tokens\n\n{text}\n")


if __name__ == "__main__":
    main()
