"""Other loaders that read from a slow store: torch with pyarrow's S3 client, Hugging Face streaming, WebDataset.

What enters: a corpus, the store's URL in `SLOW_STORE`. What leaves: their epochs, set up as their manuals say, with the
number of workers that did best on two cores.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from remote_corpus import tokens_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remote_corpus import Corpus

    Epoch = Callable[[], Iterator[Any]]

POOL = 8


def store_url() -> str:
    return os.environ["SLOW_STORE"]


def as_batch(table: Any, column: str) -> Any:
    """int64 [n, 2048], or a list of str."""
    if column == "tokens":
        return tokens_of(table).astype(np.int64)
    return table.column(column).to_pylist()


def as_it_is(batch: Any) -> Any:
    return batch


def torch_s3(workers: int, batch: int) -> Callable[[Corpus], Epoch]:
    """An IterableDataset: workers take row groups in turn, mix pools of 8 of them and cut batches from those."""

    def make(corpus: Corpus) -> Epoch:
        import torch
        from pyarrow import fs

        class Rows(torch.utils.data.IterableDataset):  # type: ignore[misc, name-defined]  # no stubs in every place
            def __init__(self) -> None:
                self.epoch = 0

            def __iter__(self) -> Iterator[Any]:
                info = torch.utils.data.get_worker_info()
                number, count = (info.id, info.num_workers) if info else (0, 1)
                remote = fs.S3FileSystem(
                    access_key="a", secret_key="b", scheme="http", region="us-east-1",
                    endpoint_override=store_url().removeprefix("http://"),
                )  # fmt: skip
                files = [f"bucket/{corpus.folder.name}/parquet/{path.name}" for path in corpus.files("parquet")]
                opened = [pq.ParquetFile(file, filesystem=remote, pre_buffer=True) for file in files]
                groups = [(file, at) for file in opened for at in range(file.num_row_groups)]
                self.epoch += 1
                rng = np.random.default_rng(self.epoch)
                mine = [groups[at] for at in rng.permutation(len(groups))[number::count]]
                for start in range(0, len(mine), POOL):
                    yield from self.batches([file.read_row_group(at) for file, at in mine[start : start + POOL]], rng)

            def batches(self, tables: list[Any], rng: np.random.Generator) -> Iterator[Any]:
                values = [as_batch(table, corpus.column) for table in tables]
                if corpus.column == "tokens":
                    rows = np.concatenate(values)
                    order = rng.permutation(len(rows))
                    for start in range(0, len(rows), batch):
                        yield torch.from_numpy(rows[order[start : start + batch]])
                else:
                    texts = [text for value in values for text in value]
                    rng.shuffle(texts)
                    for start in range(0, len(texts), batch):
                        yield texts[start : start + batch]

        # Forked workers and pyarrow's S3 threads do not go together: each connects by itself, in a fresh process.
        loader = torch.utils.data.DataLoader(
            Rows(), batch_size=None, num_workers=workers, collate_fn=as_it_is,
            multiprocessing_context="fork" if workers else None, persistent_workers=workers > 0,
        )  # fmt: skip
        return lambda: iter(loader)

    return make


def hugging_face(batch: int, *, shuffled: bool) -> Callable[[Corpus], Epoch]:
    """`load_dataset(streaming=True)` over the Parquet files by http, in arrow batches; shuffled by its buffer."""

    def make(corpus: Corpus) -> Epoch:
        import datasets

        datasets.disable_progress_bars()
        urls = [f"{store_url()}/{corpus.folder.name}/parquet/{path.name}" for path in corpus.files("parquet")]
        data = datasets.load_dataset("parquet", data_files=urls, split="train", streaming=True)
        epochs = iter(range(1 << 30))

        def epoch() -> Iterator[Any]:
            chosen = data.shuffle(seed=next(epochs), buffer_size=1000) if shuffled else data
            for table in chosen.with_format("arrow").iter(batch_size=batch):
                yield as_batch(table, corpus.column)

        return epoch

    return make


def webdataset(workers: int, batch: int) -> Callable[[Corpus], Epoch]:
    """WebDataset over tar files by curl, shards shuffled, a buffer of 1,000 samples."""

    def make(corpus: Corpus) -> Epoch:
        import torch
        import webdataset as package

        urls = [f"pipe:curl -s -f {store_url()}/{corpus.folder.name}/tar/{path.name}" for path in corpus.files("tar")]

        def finish(rows: list[bytes]) -> Any:
            if corpus.column == "tokens":
                return torch.from_numpy(np.stack([np.frombuffer(row, np.int32) for row in rows]).astype(np.int64))
            return [row.decode() for row in rows]

        data = (
            package.WebDataset(urls, shardshuffle=len(urls), seed=0)
            .shuffle(1000)
            .map(lambda sample: sample["bin"])
            .batched(batch, collation_fn=finish)
        )
        loader = torch.utils.data.DataLoader(
            data, batch_size=None, num_workers=workers, persistent_workers=workers > 0,
            multiprocessing_context="fork" if workers else None,
        )  # fmt: skip
        return lambda: iter(loader)

    return make
