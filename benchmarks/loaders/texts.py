"""Documents as Python strings, 200,000 of 2.5 kB, shuffled, 64 a batch: beside the bounds and other loaders.

    python benchmarks/loaders/texts.py            512 MB of text in several forms, a few minutes
    python benchmarks/loaders/texts.py --quick    3,000 documents
    python benchmarks/loaders/texts.py --log --cold --peer litdata=/tmp/peers/bin/python …

What enters: documents written once as one file of bytes, as Arrow and as zstd Parquet; each begins with its number, so
that deliveries can be told apart. What leaves: documents per second, as a share of two bounds: bytes at random from a
memmap decoded to strings, and the Parquet files decoded by two threads, as strings in file order.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))
from documents import MEAN_BYTES, SEED, Corpus, DocumentAt, look, make_corpus
from harness import Contender, Workload, main
from in_a_row import Living
from scanning import scan_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Epoch = Callable[[], Iterator[Any]]

BATCH = 64


# ---- contenders


def gather(corpus: Corpus) -> Epoch:
    """The bound: documents at random from a memmap, each decoded in place."""
    flat, ends = corpus.flat, corpus.ends
    rng = np.random.default_rng(SEED)

    def epoch() -> Iterator[Any]:
        order = rng.permutation(corpus.rows)
        begins, stops = ends[order].tolist(), ends[order + 1].tolist()
        for start in range(0, corpus.rows, BATCH):
            stop = start + BATCH
            yield [str(flat[a:b], "utf-8") for a, b in zip(begins[start:stop], stops[start:stop], strict=True)]

    return epoch


def scan(threads: int) -> Callable[[Corpus], Epoch]:
    """The Parquet files decoded ahead by threads, cut into batches in file order, as strings."""

    def make(corpus: Corpus) -> Epoch:
        def epoch() -> Iterator[Any]:
            for table in scan_groups(corpus.shards, ["text"], threads):
                text = table.column("text").chunk(0)
                for start in range(0, len(text), BATCH):
                    yield text.slice(start, BATCH).to_pylist()

        return epoch

    return make


def ours(form: str, *, cached: bool = False, **options: Any) -> Callable[[Corpus], Epoch]:
    def make(corpus: Corpus) -> Epoch:
        from datapipe import Cache, DataLoader, open_dataset

        # Filled by the checked epoch.
        cache = Cache(corpus.folder / "cache", "4 GB") if cached else None
        data = open_dataset(str(corpus.folder / form), cache=cache)
        # Closed after its turn: one that lives on would read ahead for its next epoch while others have theirs.
        living = Living(lambda number: DataLoader(data, BATCH, seed=number, tail="partial", **options))
        return lambda: (batch["text"] for batch in living())

    return make


def arrow_in_memory(corpus: Corpus) -> Epoch:
    """What a careful user writes: one flat Arrow array in memory, and a DataLoader with a batched fetch."""
    from torch.utils.data import DataLoader

    table = pa.concat_tables([pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in corpus.arrow])
    text = table.column("text").cast(pa.large_string()).combine_chunks()

    class Documents:
        def __len__(self) -> int:
            return corpus.rows

        def __getitems__(self, at: list[int]) -> Any:
            return text.take(pa.array(at)).to_pylist()

    loader = DataLoader(Documents(), batch_size=BATCH, shuffle=True, collate_fn=as_it_is)  # type: ignore[arg-type]
    return lambda: iter(loader)


def as_it_is(batch: Any) -> Any:
    return batch


def torch_pool(corpus: Corpus) -> Epoch:
    """An IterableDataset over row groups in random order, mixed in pools of eight."""
    from torch.utils.data import DataLoader, IterableDataset

    class Pools(IterableDataset):  # type: ignore[type-arg]
        def __init__(self) -> None:
            self.seed = 0

        def __iter__(self) -> Iterator[Any]:
            rng = np.random.default_rng(self.seed)
            self.seed += 1
            files = [pq.ParquetFile(path) for path in corpus.shards]
            groups = [(f, g) for f in files for g in range(f.num_row_groups)]
            rng.shuffle(groups)  # type: ignore[arg-type]
            for start in range(0, len(groups), 8):
                pool = pa.concat_tables([f.read_row_group(g, columns=["text"]) for f, g in groups[start : start + 8]])
                text = pool.column("text").combine_chunks()
                order = rng.permutation(len(pool))
                for at in range(0, len(order), BATCH):
                    yield text.take(pa.array(order[at : at + BATCH])).to_pylist()

    return lambda: iter(DataLoader(Pools(), batch_size=None, num_workers=0))


def hugging_face(corpus: Corpus) -> Epoch:
    """`datasets` in its own Arrow cache, shuffled, arrow format (faster than its Python format), in batches."""
    import datasets

    datasets.disable_progress_bars()
    files = [str(path) for path in corpus.shards]
    data = datasets.Dataset.from_parquet(files, cache_dir=str(corpus.folder / "huggingface"))
    epochs = iter(range(1 << 30))

    def epoch() -> Iterator[Any]:
        shuffled = data.shuffle(seed=next(epochs), keep_in_memory=True).with_format("arrow")
        for table in shuffled.iter(batch_size=BATCH):
            yield table.column("text").to_pylist()

    return epoch


def hugging_face_streaming(corpus: Corpus) -> Epoch:
    """`datasets` streaming from Parquet: shards shuffled, and a buffer of 1,000."""
    import datasets

    datasets.disable_progress_bars()
    files = [str(path) for path in corpus.shards]
    data = datasets.load_dataset("parquet", data_files=files, streaming=True, split="train")
    data = data.shuffle(seed=SEED, buffer_size=1000)

    def epoch() -> Iterator[Any]:
        for batch in data.iter(batch_size=BATCH):
            yield batch["text"]

    return epoch


def litdata(corpus: Corpus) -> Epoch:
    """LitData's own chunks of 64 MB, its shuffle, no workers."""
    import litdata as package

    folder = corpus.folder / "litdata"
    if not (folder / "index.json").exists():
        package.optimize(
            fn=DocumentAt(corpus), inputs=list(range(corpus.rows)), output_dir=str(folder), chunk_bytes="64MB",
            num_workers=1,
        )  # fmt: skip
    data = package.StreamingDataset(str(folder), shuffle=True)
    loader = package.StreamingDataLoader(data, batch_size=BATCH, num_workers=0, collate_fn=as_it_is)
    return lambda: iter(loader)


def streaming(corpus: Corpus) -> Epoch:
    """MosaicML Streaming's own shards, local, its default shuffle, no workers."""
    from streaming import MDSWriter, StreamingDataset
    from torch.utils.data import DataLoader

    folder = corpus.folder / "mds"
    if not (folder / "index.json").exists():
        document = DocumentAt(corpus)
        with MDSWriter(out=str(folder), columns={"text": "str"}) as writer:
            for at in range(corpus.rows):
                writer.write({"text": document(at)})
    data = StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH)
    loader = DataLoader(data, batch_size=BATCH)

    def epoch() -> Iterator[Any]:
        for batch in loader:
            yield batch["text"]

    return epoch


def webdataset(corpus: Corpus) -> Epoch:
    """WebDataset: tar shards of 5,000 documents, shards shuffled, a buffer of 1,000."""
    import webdataset as package

    folder = corpus.folder / "webdataset"
    if not (folder / "done").exists():
        folder.mkdir(exist_ok=True)
        document = DocumentAt(corpus)
        with package.ShardWriter(str(folder / "%05d.tar"), maxcount=5000, verbose=0) as sink:
            for at in range(corpus.rows):
                sink.write({"__key__": f"{at:09d}", "txt": document(at)})
        (folder / "done").touch()
    shards = sorted(str(path) for path in folder.glob("*.tar"))
    data = (
        package.WebDataset(shards, shardshuffle=len(shards), seed=SEED)
        .shuffle(1000)
        .map(lambda sample: sample["txt"].decode())
        .batched(BATCH, collation_fn=as_it_is)
    )
    return lambda: iter(data)


def grain(corpus: Corpus) -> Epoch:
    """Grain's map dataset over the memmap, its global shuffle, its own prefetch threads."""
    import grain.python as package

    flat, ends = corpus.flat, corpus.ends.tolist()

    class Source:
        def __len__(self) -> int:
            return corpus.rows

        def __getitem__(self, at: int) -> Any:
            return str(flat[ends[at] : ends[at + 1]], "utf-8")

    def epoch() -> Iterator[Any]:
        data = package.MapDataset.source(Source()).shuffle(seed=SEED).batch(BATCH, batch_fn=as_it_is)
        yield from data.to_iter_dataset()

    return epoch


def lance(corpus: Corpus) -> Epoch:
    """Lance's own format, rows taken at random a batch at a time."""
    import lance as package

    folder = corpus.folder / "lance"
    if not folder.exists():
        package.write_dataset(pa.concat_tables([pq.read_table(path) for path in corpus.shards]), str(folder))
    data = package.dataset(str(folder))
    rng = np.random.default_rng(SEED)

    def epoch() -> Iterator[Any]:
        order = rng.permutation(corpus.rows)
        for start in range(0, corpus.rows, BATCH):
            yield data.take(order[start : start + BATCH].tolist()).column("text").to_pylist()

    return epoch


WORKLOAD = Workload(
    name="documents as strings (`loaders/texts.py`)",
    unit="documents",
    script=__file__,
    corpus=make_corpus,
    look=look,
    files=lambda c: [c.folder / "texts.bin", *c.arrow, *c.shards],
    versions=("torch", "datasets"),
    bounds=("gather: from a memmap, decoded", "scan: Parquet, 2 threads"),
    says=lambda c: (
        f"{c.rows:,} documents of {MEAN_BYTES:,} bytes on average, Python strings, {BATCH} a batch, shuffled"
    ),
    contenders={
        "gather: from a memmap, decoded": Contender(make=gather, cold=True),
        "scan: Parquet, 2 threads": Contender(make=scan(2), order="none", cold=True),
        "scan, 1 thread": Contender(make=scan(1), order="none"),
        "datapipe, Parquet": Contender(make=ours("parquet"), needs="datapipe", order="window", cold=True),
        "datapipe, Parquet, prefetch=0": Contender(make=ours("parquet", prefetch=0), needs="datapipe", order="window"),
        "datapipe, cache, prefetch=0": Contender(
            make=ours("parquet", cached=True, prefetch=0), needs="datapipe", order="window"
        ),
        "datapipe, cache": Contender(make=ours("parquet", cached=True), needs="datapipe", order="window"),
        "datapipe, Arrow, prefetch=0": Contender(make=ours("arrow", prefetch=0), needs="datapipe", order="window"),
        "torch DataLoader, one Arrow array in memory": Contender(make=arrow_in_memory, needs="torch"),
        "torch DataLoader, pools of 8 row groups": Contender(make=torch_pool, needs="torch", order="pool"),
        "Hugging Face datasets, shuffle().iter": Contender(make=hugging_face, needs="datasets"),
        "Hugging Face, streaming, a buffer of 1,000": Contender(
            make=hugging_face_streaming, needs="datasets", order="buffer"
        ),
        "LitData": Contender(make=litdata, needs="litdata", order="chunks"),
        "MosaicML Streaming": Contender(make=streaming, needs="streaming"),
        "WebDataset": Contender(make=webdataset, needs="webdataset", order="buffer"),
        "Grain": Contender(make=grain, needs="grain"),
        "Lance": Contender(make=lance, needs="lance"),
    },
)

if __name__ == "__main__":
    main(WORKLOAD)
