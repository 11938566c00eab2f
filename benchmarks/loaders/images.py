"""JPEGs of 30 to 60 kB to float32 [64, 3, 224, 224] by a transform: beside two hand-written threads and other loaders.

    python benchmarks/loaders/images.py            8,000 images, 0.4 GB in several forms, a few minutes
    python benchmarks/loaders/images.py --quick    256 images
    python benchmarks/loaders/images.py --log --peer litdata=/tmp/peers/bin/python …

What enters: images of gradients and noise, as JPEG, written once as one file of bytes, as Arrow and as Parquet, each
with its number. What leaves: images per second, as a share of the bound: two threads that a user would write for this
alone, each of which decodes whole batches. All decode with the same function: simplejpeg where it is installed, else
Pillow, both reading at the least scale that gives 224 pixels, then the middle. The environments of all that take part
need that package.
"""

from __future__ import annotations

import functools
import queue
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from harness import Contender, Workload, main
from in_a_row import Living
from pictures import DECODERS, SEED, SIDE, Corpus, JpegAt, batch_of, fill, find_decoder, look, make_corpus, sample_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Epoch = Callable[[], Iterator[Any]]

BATCH = 64
THREADS = 2


# ---- contenders


def by_hand(corpus: Corpus) -> Epoch:
    """The bound: two threads that take turns at batches of a permutation, read from a memmap."""
    flat, ends, decode = corpus.flat, corpus.ends.tolist(), corpus.decode
    rng = np.random.default_rng(SEED)

    def epoch() -> Iterator[Any]:
        order = rng.permutation(corpus.rows)
        starts = range(0, corpus.rows, BATCH)
        slots: list[queue.Queue[Any]] = [queue.Queue(1) for _ in starts]
        room = threading.Semaphore(2 * THREADS)
        todo = iter(range(len(slots)))
        lock = threading.Lock()

        def work() -> None:
            while True:
                room.acquire()
                with lock:
                    at = next(todo, None)
                if at is None:
                    room.release()
                    return
                ids = order[starts[at] : starts[at] + BATCH]
                slots[at].put((ids, batch_of([flat[ends[i] : ends[i + 1]] for i in ids.tolist()], decode)))

        threads = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for slot in slots:
            yield slot.get()
            room.release()
        for thread in threads:
            thread.join()

    return epoch


def ours(form: str, **options: Any) -> Callable[[Corpus], Epoch]:
    def make(corpus: Corpus) -> Epoch:
        from datapipe import DataLoader, open_dataset

        data = open_dataset(str(corpus.folder / form))
        # Closed after its turn: one that lives on would read ahead for its next epoch while others have theirs.
        return Living(
            lambda number: DataLoader(
                data, BATCH, seed=number, tail="partial", transform=ToPixels(corpus.decode), collate=pair, **options
            )
        )

    return make


class ToPixels:
    """A transform of columns: the same function for each image, into memory that the loader uses again."""

    takes = "columns"

    def __init__(self, decode: Callable[[Any], np.ndarray]) -> None:
        self._decode = decode

    def __call__(self, columns: dict[str, Any], keys: Any) -> dict[str, Any]:
        images = columns["jpeg"]
        out = keys.empty((len(images), 3, SIDE, SIDE), np.float32)
        return {"id": columns["id"], "images": fill(out, images, self._decode)}


def pair(columns: dict[str, Any]) -> Any:
    return columns["id"], columns["images"]


class Images:
    """The map-style dataset that a tutorial writes."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._ends = corpus.ends
        self._flat: Any = None

    def __len__(self) -> int:
        return self._corpus.rows

    def __getitem__(self, at: int) -> Any:
        if self._flat is None:  # opened in the worker
            self._flat = self._corpus.flat
        return at, sample_of(self._flat[self._ends[at] : self._ends[at + 1]], self._corpus.decode)


def stacked(samples: Sequence[Any]) -> Any:
    """(number, image) pairs → numbers and [n, 3, 224, 224], as tensors."""
    import torch

    return torch.tensor([at for at, _ in samples]), torch.from_numpy(np.stack([image for _, image in samples]))


def torch_loader(workers: int) -> Callable[[Corpus], Epoch]:
    def make(corpus: Corpus) -> Epoch:
        from torch.utils.data import DataLoader

        loader = DataLoader(
            Images(corpus),  # type: ignore[arg-type]  # by shape, not by inheritance
            batch_size=BATCH,
            shuffle=True,
            num_workers=workers,
            collate_fn=stacked,
            persistent_workers=workers > 0,
        )
        return lambda: iter(loader)

    return make


def torchdata_threads(corpus: Corpus) -> Epoch:
    """torchdata's nodes: samples decoded by two threads, in order."""
    from torch.utils.data import RandomSampler
    from torchdata import nodes

    images = Images(corpus)
    images[0]
    sampler = RandomSampler(range(corpus.rows))

    def epoch() -> Iterator[Any]:
        node: Any = nodes.SamplerWrapper(sampler)
        node = nodes.ParallelMapper(node, images.__getitem__, num_workers=THREADS, method="thread")
        node = nodes.Batcher(node, BATCH, drop_last=False)
        yield from nodes.Loader(nodes.Prefetcher(nodes.Mapper(node, stacked), 2))

    return epoch


def spdl(corpus: Corpus) -> Epoch:
    """SPDL's pipeline: batches of bytes decoded by two threads."""
    from spdl.pipeline import PipelineBuilder

    images = Images(corpus)
    images[0]
    rng = np.random.default_rng(SEED)

    def epoch() -> Iterator[Any]:
        order = rng.permutation(corpus.rows)
        batches = [order[start : start + BATCH].tolist() for start in range(0, corpus.rows, BATCH)]
        pipeline = (
            PipelineBuilder()
            .add_source(batches)
            .pipe(lambda ids: stacked([images[at] for at in ids]), concurrency=THREADS, output_order="input")
            .add_sink(3)
            .build(num_threads=THREADS)
        )
        with pipeline.auto_stop():
            yield from pipeline

    return epoch


def hugging_face(corpus: Corpus) -> Epoch:
    """`datasets` in its own Arrow cache, shuffled, decoded by a transform in two workers of a torch DataLoader."""
    import datasets
    from torch.utils.data import DataLoader

    datasets.disable_progress_bars()
    path = str(corpus.folder / "parquet" / "images.parquet")
    data = datasets.Dataset.from_parquet(path, cache_dir=str(corpus.folder / "huggingface"))
    decode = corpus.decode

    def decoded(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {"id": rows["id"], "image": [sample_of(each, decode) for each in rows["jpeg"]]}

    data = data.with_transform(decoded)
    loader = DataLoader(
        data, batch_size=BATCH, shuffle=True, num_workers=THREADS, persistent_workers=True, collate_fn=stacked_rows
    )  # fmt: skip
    return lambda: iter(loader)


def stacked_rows(rows: Sequence[dict[str, Any]]) -> Any:
    return stacked([(row["id"], row["image"]) for row in rows])


def webdataset(corpus: Corpus) -> Epoch:
    """WebDataset: tar shards of 500 images, shards shuffled, a buffer of 500, two workers."""
    import webdataset as package

    folder = corpus.folder / "webdataset"
    if not (folder / "done").exists():
        folder.mkdir(exist_ok=True)
        jpeg_at = JpegAt(corpus)
        with package.ShardWriter(str(folder / "%05d.tar"), maxcount=min(500, corpus.rows // 4), verbose=0) as sink:
            for at in range(corpus.rows):
                sink.write({"__key__": f"{at:09d}", "jpg": jpeg_at(at)["jpeg"]})
        (folder / "done").touch()
    shards = sorted(str(path) for path in folder.glob("*.tar"))
    decode = corpus.decode
    data = (
        package.WebDataset(shards, shardshuffle=len(shards), seed=SEED)
        .shuffle(500)
        .map(lambda sample: (int(sample["__key__"]), sample_of(sample["jpg"], decode)))
        .batched(BATCH, collation_fn=stacked)
    )
    loader = package.WebLoader(data, batch_size=None, num_workers=THREADS, persistent_workers=True)
    return lambda: iter(loader)


def litdata(corpus: Corpus) -> Epoch:
    """LitData's own chunks of 64 MB, its shuffle, two workers."""
    import litdata as package

    folder = corpus.folder / "litdata"
    if not (folder / "index.json").exists():
        package.optimize(
            fn=JpegAt(corpus), inputs=list(range(corpus.rows)), output_dir=str(folder), chunk_bytes="64MB",
            num_workers=1,
        )  # fmt: skip
    data = package.StreamingDataset(str(folder), shuffle=True)

    collate = functools.partial(decoded_rows, corpus.decode)
    loader = package.StreamingDataLoader(
        data, batch_size=BATCH, num_workers=THREADS, collate_fn=collate, persistent_workers=True
    )
    return lambda: iter(loader)


def decoded_rows(decode: Callable[[Any], np.ndarray], rows: Sequence[dict[str, Any]]) -> Any:
    return stacked([(row["id"], sample_of(row["jpeg"], decode)) for row in rows])


def grain(corpus: Corpus) -> Epoch:
    """Grain's map dataset over the memmap, its global shuffle, samples decoded by two threads."""
    import grain.python as package

    images = Images(corpus)
    images[0]

    def epoch() -> Iterator[Any]:
        data = package.MapDataset.source(images).shuffle(seed=SEED)
        threads = package.ReadOptions(num_threads=THREADS, prefetch_buffer_size=4 * BATCH)
        yield from data.to_iter_dataset(threads).batch(BATCH, batch_fn=stacked)

    return epoch


WORKLOAD = Workload(
    name="JPEGs to float32 (`loaders/images.py`)",
    unit="images",
    script=__file__,
    corpus=make_corpus,
    look=look,
    files=lambda c: [c.folder / "images.bin", *c.folder.glob("arrow/*.arrow"), *c.folder.glob("parquet/*.parquet")],
    versions=(*DECODERS[:1], "torch", "datasets"),
    says=lambda c: (
        f"{c.rows:,} JPEGs of {c.ends[-1] / c.rows / 1e3:.0f} kB on average to float32"
        f" [{BATCH}, 3, {SIDE}, {SIDE}], decoded by {c.decoder}, shuffled"
    ),
    contenders={
        "by hand: two threads that decode": Contender(make=by_hand, cold=True),
        "datapipe, Parquet": Contender(make=ours("parquet"), needs="datapipe", order="window", cold=True),
        "datapipe, Arrow": Contender(make=ours("arrow"), needs="datapipe", order="window"),
        "datapipe, Arrow, prefetch=0": Contender(make=ours("arrow", prefetch=0), needs="datapipe", order="window"),
        "torchdata nodes, 2 threads": Contender(make=torchdata_threads, needs="torchdata"),
        "SPDL, 2 threads": Contender(make=spdl, needs="spdl"),
        "torch DataLoader, 2 workers": Contender(make=torch_loader(2), needs="torch"),
        "Hugging Face datasets, 2 workers": Contender(make=hugging_face, needs="datasets"),
        "LitData, 2 workers": Contender(make=litdata, needs="litdata", order="chunks"),
        "WebDataset, 2 workers": Contender(make=webdataset, needs="webdataset", order="buffer"),
        "Grain, 2 threads": Contender(make=grain, needs="grain"),
    },
)

if __name__ == "__main__":
    if find_decoder() is None:
        print(f"left out: no JPEG decoder here (pip install {DECODERS[0]}): {__file__}", file=sys.stderr)
    else:
        main(WORKLOAD)
