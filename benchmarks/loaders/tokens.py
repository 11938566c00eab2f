"""Packed tokens, 100,000 rows of 2,048 int32 to int64 [32, 2048], shuffled: beside the bound and other loaders.

    python benchmarks/loaders/tokens.py            3 x 820 MB of files, a few minutes
    python benchmarks/loaders/tokens.py --quick    4,000 rows of 128
    python benchmarks/loaders/tokens.py --log --cold --peer litdata=/tmp/peers/bin/python …

What enters: rows written once as a memmap, an Arrow file and a Parquet file; row i begins with token i, so that
deliveries can be told apart. What leaves: samples per second, as a share of two bounds: rows at random from a memmap
into one reused buffer, and the Parquet file decoded by two threads in file order.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))
from harness import Contender, Workload, main
from in_a_row import Living
from scanning import scan_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Epoch = Callable[[], Iterator[Any]]

SEED = 0
BATCH = 32
VOCABULARY = 50_257
ROWS_PER_GROUP = 1000


@dataclass(frozen=True, kw_only=True)
class Corpus:
    rows: int
    length: int
    folder: Path
    total: int

    @property
    def memmap(self) -> np.ndarray:
        return np.memmap(self.folder / "tokens.bin", np.int32, "r", shape=(self.rows, self.length))


def make_corpus(folder: Path, quick: bool) -> Corpus:
    """Write what is not there yet. The last file to be written marks the corpus as whole."""
    rows, length = (4000, 128) if quick else (100_000, 2048)
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
    return Corpus(rows=rows, length=length, folder=folder, total=int(done.read_text()))


def look(batch: Any) -> tuple[np.ndarray, int]:
    tokens = np.asarray(batch)
    if tokens.dtype != np.int64 or tokens.ndim != 2:
        raise ValueError(f"delivered {tokens.dtype} {tokens.shape}")
    return tokens[:, 0], int(tokens.sum())


# ---- contenders


def numpy_gather(corpus: Corpus) -> Epoch:
    """The bound: rows at random from a memmap, widened into one buffer that is written over and over."""
    tokens = np.asarray(corpus.memmap)
    out = np.empty((BATCH, corpus.length), np.int64)
    narrow = np.empty((BATCH, corpus.length), np.int32)
    rng = np.random.default_rng(SEED)

    def epoch() -> Iterator[Any]:
        order = rng.permutation(corpus.rows)
        for start in range(0, corpus.rows, BATCH):
            np.take(tokens, order[start : start + BATCH], axis=0, out=narrow, mode="clip")
            np.copyto(out, narrow)
            yield out

    return epoch


def scan(corpus: Corpus) -> Epoch:
    """The Parquet file decoded ahead by two threads and cut into batches in file order, widened."""

    def epoch() -> Iterator[Any]:
        for table in scan_groups([corpus.folder / "parquet" / "tokens.parquet"], ["tokens"], threads=2):
            rows = table.column("tokens").chunk(0).flatten().to_numpy().reshape(-1, corpus.length)
            for start in range(0, len(rows), BATCH):
                yield rows[start : start + BATCH].astype(np.int64)

    return epoch


def ours(form: str, **options: Any) -> Callable[[Corpus], Epoch]:
    def make(corpus: Corpus) -> Epoch:
        from datapipe import DataLoader, open_dataset

        data = open_dataset(str(corpus.folder / form))
        # Closed after its turn: one that lives on would read ahead for its next epoch while others have theirs.
        living = Living(lambda number: DataLoader(data, BATCH, seed=number, tail="partial", **options))
        return lambda: (batch["tokens"] for batch in living())

    return make


class RowDataset:
    """The plain map-style dataset that a tutorial writes."""

    def __init__(self, corpus: Corpus) -> None:
        import torch

        self._torch = torch
        self._rows = corpus.rows
        self._tokens = corpus.memmap

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, at: int) -> Any:
        return self._torch.from_numpy(self._tokens[at].astype(np.int64))


class BatchDataset(RowDataset):
    """The same with the batched fetch that torch offers."""

    def __getitems__(self, at: list[int]) -> Any:
        return self._torch.from_numpy(self._tokens[at].astype(np.int64))


def as_it_is(batch: Any) -> Any:
    return batch


def torch_loader(dataset: type, workers: int) -> Callable[[Corpus], Epoch]:
    def make(corpus: Corpus) -> Epoch:
        from torch.utils.data import DataLoader

        loader = DataLoader(
            dataset(corpus),  # type: ignore[arg-type]  # by shape, not by inheritance
            batch_size=BATCH,
            shuffle=True,
            num_workers=workers,
            collate_fn=as_it_is if dataset is BatchDataset else None,
            persistent_workers=workers > 0,
        )
        return lambda: iter(loader)

    return make


def hugging_face(corpus: Corpus) -> Epoch:
    """`datasets` over the Parquet file, in its own Arrow cache, shuffled, arrow format, widened in one call."""
    import datasets

    datasets.disable_progress_bars()
    path = str(corpus.folder / "parquet" / "tokens.parquet")
    data = datasets.Dataset.from_parquet(path, cache_dir=str(corpus.folder / "huggingface"))
    epochs = iter(range(1 << 30))

    def epoch() -> Iterator[Any]:
        shuffled = data.shuffle(seed=next(epochs), keep_in_memory=True).with_format("arrow")
        for table in shuffled.iter(batch_size=BATCH):
            values = table.column("tokens").combine_chunks().flatten()
            yield values.to_numpy().astype(np.int64).reshape(table.num_rows, corpus.length)

    return epoch


@dataclass(frozen=True)
class RowOf:
    """Row number → the row as a tensor: LitData pickles what it calls."""

    corpus: Corpus

    def __call__(self, at: int) -> Any:
        import torch

        return torch.from_numpy(np.array(self.corpus.memmap[at]))


def litdata(corpus: Corpus) -> Epoch:
    """LitData's own chunks of 64 MB, its shuffle, no workers."""
    import litdata as package

    folder = corpus.folder / "litdata"
    if not (folder / "index.json").exists():
        package.optimize(
            fn=RowOf(corpus), inputs=list(range(corpus.rows)), output_dir=str(folder), chunk_bytes="64MB", num_workers=1
        )
    data = package.StreamingDataset(str(folder), shuffle=True)
    loader = package.StreamingDataLoader(data, batch_size=BATCH, num_workers=0)

    def epoch() -> Iterator[Any]:
        for batch in loader:
            yield batch.long()

    return epoch


def streaming(corpus: Corpus) -> Epoch:
    """MosaicML Streaming's own shards, local, its default shuffle, no workers."""
    from streaming import MDSWriter, StreamingDataset
    from torch.utils.data import DataLoader

    folder = corpus.folder / "mds"
    if not (folder / "index.json").exists():
        with MDSWriter(out=str(folder), columns={"tokens": f"ndarray:int32:{corpus.length}"}) as writer:
            for row in corpus.memmap:
                writer.write({"tokens": np.array(row)})
    data = StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH)
    loader = DataLoader(data, batch_size=BATCH)

    def epoch() -> Iterator[Any]:
        for batch in loader:
            yield batch["tokens"].long()

    return epoch


def webdataset(corpus: Corpus) -> Epoch:
    """WebDataset: tar shards of 2,000 samples, shards shuffled, a buffer of 1,000 samples."""
    import webdataset as package

    folder = corpus.folder / "webdataset"
    if not (folder / "done").exists():
        folder.mkdir(exist_ok=True)
        with package.ShardWriter(str(folder / "%05d.tar"), maxcount=2000, verbose=0) as sink:
            for at, row in enumerate(corpus.memmap):
                sink.write({"__key__": f"{at:09d}", "bin": row.tobytes()})
        (folder / "done").touch()
    shards = sorted(str(path) for path in folder.glob("*.tar"))
    data = (
        package.WebDataset(shards, shardshuffle=len(shards), seed=SEED)
        .shuffle(1000)
        .map(lambda sample: np.frombuffer(sample["bin"], np.int32))
        .batched(BATCH, collation_fn=lambda rows: np.stack(rows).astype(np.int64))
    )
    return lambda: iter(data)


def grain(corpus: Corpus) -> Epoch:
    """Grain's map dataset over the memmap, its global shuffle, its own prefetch threads."""
    import grain.python as package

    rows = corpus.memmap

    class Source:
        def __len__(self) -> int:
            return corpus.rows

        def __getitem__(self, at: int) -> Any:
            return rows[at].astype(np.int64)

    def epoch() -> Iterator[Any]:
        data = package.MapDataset.source(Source()).shuffle(seed=SEED).batch(BATCH)
        yield from data.to_iter_dataset()

    return epoch


def lance(corpus: Corpus) -> Epoch:
    """Lance's own format, rows taken at random a batch at a time."""
    import lance as package

    folder = corpus.folder / "lance"
    if not folder.exists():
        package.write_dataset(pq.read_table(corpus.folder / "parquet" / "tokens.parquet"), str(folder))
    data = package.dataset(str(folder))
    rng = np.random.default_rng(SEED)

    def epoch() -> Iterator[Any]:
        order = rng.permutation(corpus.rows)
        for start in range(0, corpus.rows, BATCH):
            table = data.take(order[start : start + BATCH].tolist())
            values = table.column("tokens").combine_chunks().flatten()
            yield values.to_numpy().astype(np.int64).reshape(table.num_rows, corpus.length)

    return epoch


WORKLOAD = Workload(
    name="packed tokens (`loaders/tokens.py`)",
    unit="samples",
    script=__file__,
    corpus=make_corpus,
    look=look,
    files=lambda c: [c.folder / "tokens.bin", *c.folder.glob("arrow/*.arrow"), *c.folder.glob("parquet/*.parquet")],
    versions=("torch", "datasets"),
    bounds=("gather: a memmap into one buffer", "scan: Parquet, 2 threads"),
    says=lambda c: f"{c.rows:,} x {c.length:,} int32 to int64 [{BATCH}, {c.length:,}], shuffled",
    contenders={
        "gather: a memmap into one buffer": Contender(make=numpy_gather, cold=True),
        "scan: Parquet, 2 threads": Contender(make=scan, order="none", cold=True),
        "datapipe, Arrow, prefetch=0": Contender(make=ours("arrow", prefetch=0), needs="datapipe", cold=True),
        "datapipe, Arrow": Contender(make=ours("arrow"), needs="datapipe", cold=True),
        "datapipe, Parquet, prefetch=0": Contender(make=ours("parquet", prefetch=0), needs="datapipe"),
        "datapipe, Parquet": Contender(make=ours("parquet"), needs="datapipe", cold=True),
        "torch DataLoader, __getitem__, 0 workers": Contender(make=torch_loader(RowDataset, 0), needs="torch"),
        "torch DataLoader, __getitem__, 2 workers": Contender(make=torch_loader(RowDataset, 2), needs="torch"),
        "torch DataLoader, __getitems__, 0 workers": Contender(make=torch_loader(BatchDataset, 0), needs="torch"),
        "torch DataLoader, __getitems__, 2 workers": Contender(make=torch_loader(BatchDataset, 2), needs="torch"),
        "Hugging Face datasets, arrow format": Contender(make=hugging_face, needs="datasets"),
        "LitData": Contender(make=litdata, needs="litdata"),
        "MosaicML Streaming": Contender(make=streaming, needs="streaming"),
        "WebDataset": Contender(make=webdataset, needs="webdataset"),
        "Grain": Contender(make=grain, needs="grain"),
        "Lance": Contender(make=lance, needs="lance"),
    },
)

if __name__ == "__main__":
    main(WORKLOAD)
