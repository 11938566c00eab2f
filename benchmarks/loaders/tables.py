"""A table of 40 columns in zstd Parquet, shuffled, in batches of 8,192: beside a Parquet scan and other loaders.

    python benchmarks/loaders/tables.py            8,000,000 rows, 1.0 GB of Parquet, several minutes
    python benchmarks/loaders/tables.py --quick    100,000 rows
    python benchmarks/loaders/tables.py --log --cold --peer lance=/tmp/peers/bin/python

What enters: rows of 13 float32, 26 int32 and an int32 label, like an advertising log (the label is the row's number, so
that deliveries can be told apart). What leaves: one array per column; normalised, the floats on a common scale by the
statistics of a manifest, checked bit by bit. The bounds: the same files decoded by two threads
in file order, and columns gathered at random from row-major rows in memory.
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
BATCH = 8192
FLOATS = [f"f{i}" for i in range(13)]
WHOLE = [f"c{i}" for i in range(26)]
NAMES = [*FLOATS, *WHOLE, "label"]
GROUP = 1 << 16
THREADS = 2


@dataclass(frozen=True, kw_only=True)
class Corpus:
    rows: int
    folder: Path
    total: int

    @property
    def parquet(self) -> Path:
        return self.folder / "parquet"

    @property
    def shards(self) -> list[Path]:
        return sorted(self.parquet.glob("*.parquet"))

    @property
    def row_major(self) -> np.ndarray:
        return np.memmap(self.folder / "rows.bin", np.int32, "r", shape=(self.rows, len(NAMES)))


def make_corpus(folder: Path, quick: bool) -> Corpus:
    rows = 100_000 if quick else 8_000_000
    folder = folder / f"table-{rows}-v2"
    done = folder / "sum.txt"
    if not done.exists():
        (folder / "parquet").mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(SEED)
        flat = np.memmap(folder / "rows.bin", np.int32, "w+", shape=(rows, len(NAMES)))
        types = [pa.float32()] * len(FLOATS) + [pa.int32()] * (len(WHOLE) + 1)
        schema = pa.schema(list(zip(NAMES, types, strict=True)))
        total = 0
        shards = 8
        edges = [rows * i // shards for i in range(shards + 1)]
        for shard in range(shards):
            path = folder / "parquet" / f"part-{shard}.parquet"
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                for start in range(edges[shard], edges[shard + 1], GROUP):
                    n = min(GROUP, edges[shard + 1] - start)
                    columns = [rng.lognormal(0, 1, n).astype(np.float32) for _ in FLOATS]
                    columns += [np.minimum(rng.zipf(1.3, n), 1 << 20).astype(np.int32) for _ in WHOLE]
                    columns.append(np.arange(start, start + n, dtype=np.int32))
                    writer.write_batch(pa.record_batch([pa.array(c) for c in columns], schema=schema), GROUP)
                    flat[start : start + n] = np.stack([c.view(np.int32) for c in columns], axis=1)
                    total += checksum(columns)
        flat.flush()
        done.write_text(str(total))
    return Corpus(rows=rows, folder=folder, total=int(done.read_text()))


def checksum(columns: list[np.ndarray]) -> int:
    """Of the values of each column, floats by their bits: another order of rows gives the same."""
    total = 0
    for at, column in enumerate(columns):
        bits = column.view(np.uint32) if column.dtype == np.float32 else column
        total += (at + 1) * int(bits.astype(np.int64).sum())
    return total


def look(batch: Any) -> tuple[np.ndarray, int]:
    columns = [np.asarray(batch[name]) for name in NAMES]
    for name, column in zip(NAMES, columns, strict=True):
        if column.dtype not in ((np.float32,) if name in FLOATS else (np.int64, np.int32)):
            raise ValueError(f"column {name} came as {column.dtype}")
    return columns[-1], checksum(columns)


def widened(table: pa.Table) -> dict[str, np.ndarray]:
    return {
        name: table.column(name).to_numpy().astype(np.float32 if name in FLOATS else np.int64, copy=False)
        for name in NAMES
    }


# ---- contenders


def scan(*, widen: bool) -> Callable[[Corpus], Epoch]:
    """Row groups decoded ahead by two threads and delivered in file order, as whole tables."""

    def make(corpus: Corpus) -> Epoch:
        def epoch() -> Iterator[Any]:
            for table in scan_groups(corpus.shards, NAMES, THREADS):
                yield widened(table) if widen else table

        return epoch

    return make


def look_at_any(batch: Any) -> tuple[np.ndarray, int]:
    if isinstance(batch, Scaled):
        return look(batch.raw())
    return look(widened(batch) if isinstance(batch, pa.Table) else batch)


def row_major(corpus: Corpus) -> Epoch:
    """Rows at random from row-major rows in memory, widened into fresh arrays."""
    rows = np.asarray(corpus.row_major)
    rng = np.random.default_rng(SEED)

    def epoch() -> Iterator[Any]:
        order = rng.permutation(corpus.rows)
        found = np.empty((BATCH, len(NAMES)), np.int32)
        for start in range(0, corpus.rows, BATCH):
            index = order[start : start + BATCH]
            part = np.take(rows, index, axis=0, out=found[: len(index)], mode="clip")
            floats = np.ascontiguousarray(part[:, : len(FLOATS)].T).view(np.float32)
            whole = part[:, len(FLOATS) :].T.astype(np.int64, order="C")
            yield dict(zip(NAMES, [*floats, *whole], strict=True))

    return epoch


def ours(**options: Any) -> Callable[[Corpus], Epoch]:
    def make(corpus: Corpus) -> Epoch:
        from datapipe import DataLoader, open_dataset

        data = open_dataset(str(corpus.parquet))
        # Closed after its turn: one that lives on would read ahead for its next epoch while others have theirs.
        return Living(lambda number: DataLoader(data, BATCH, seed=number, tail="partial", **options))

    return make


def encoded(corpus: Corpus) -> Epoch:
    """The same, the 13 floats on a common scale, by the statistics of a manifest, as they are read."""
    from datapipe import DataLoader, encode, open_dataset, preprocess

    made = corpus.folder / "scaled"
    if not made.exists():
        # Statistics are those of the first shard: what is measured here is not what they are.
        recipe = {
            "name": "scales",
            "input": {"text_column": None, "columns": FLOATS},
            "steps": [{"normalise": {"columns": dict.fromkeys(FLOATS, "zscore"), "apply": "online"}}],
        }
        preprocess(str(corpus.shards[0]), made, recipe=recipe, workers=0)
    like = open_dataset(str(made))
    data = encode(open_dataset(str(corpus.parquet)), like=like)
    found = like.manifest.statistics["normalise"]["columns"]
    epochs = Living(lambda number: DataLoader(data, BATCH, seed=number, tail="partial"))

    def epoch() -> Iterator[Any]:
        for batch in epochs():
            yield Scaled(batch, corpus, found)

    return epoch


class Scaled(dict[str, Any]):
    """A batch whose floats were put on a common scale, and what they were before."""

    def __init__(self, batch: dict[str, Any], corpus: Corpus, found: dict[str, Any]) -> None:
        super().__init__(batch)
        self._corpus = corpus
        self._found = found

    def raw(self) -> dict[str, np.ndarray]:
        """The columns as they are stored, once it is seen that each value was scaled as numpy scales it."""
        rows = np.asarray(self["label"])
        stored = self._corpus.row_major[rows, : len(FLOATS)]
        columns = {name: np.asarray(self[name]) for name in NAMES}
        for at, name in enumerate(FLOATS):
            was = stored[:, at].copy().view(np.float32)
            mean, std = self._found[name]["mean"], self._found[name]["std"]
            if columns[name].tobytes() != ((was.astype(np.float64) - mean) / std).astype(np.float32).tobytes():
                raise ValueError(f"column {name} is not scaled as it should be")
            columns[name] = was
        return columns


def hugging_face(corpus: Corpus) -> Epoch:
    """`datasets`, streaming, in file order, arrow batches, widened."""
    import datasets

    datasets.disable_progress_bars()
    files = [str(path) for path in corpus.shards]
    data = datasets.load_dataset("parquet", data_files=files, streaming=True, split="train").with_format("arrow")

    def epoch() -> Iterator[Any]:
        for table in data.iter(batch_size=BATCH):
            yield widened(table)

    return epoch


def lance(corpus: Corpus) -> Epoch:
    """Lance's own format: batches of consecutive rows, the batches in random order."""
    import lance as package
    import torch
    from lance.torch.data import LanceDataset

    path = corpus.folder / "lance"
    if not path.exists():
        package.write_dataset(pa.dataset.dataset(str(corpus.parquet)), str(path))

    def arrays(batch: pa.RecordBatch, **_: Any) -> dict[str, np.ndarray]:
        return widened(pa.Table.from_batches([batch]))

    epochs = iter(range(1 << 30))

    def epoch() -> Iterator[Any]:
        torch.manual_seed(next(epochs))
        yield from LanceDataset(str(path), batch_size=BATCH, columns=NAMES, to_tensor_fn=arrays, batch_readahead=4)

    return epoch


def torch_pool(corpus: Corpus) -> Epoch:
    """What a careful user writes: an IterableDataset over row groups in random order, mixed in pools of eight."""
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
                pool = pa.concat_tables([f.read_row_group(g, columns=NAMES) for f, g in groups[start : start + 8]])
                columns = widened(pool)
                order = rng.permutation(len(pool))
                for at in range(0, len(order), BATCH):
                    index = order[at : at + BATCH]
                    yield {name: column[index] for name, column in columns.items()}

    return lambda: iter(DataLoader(Pools(), batch_size=None, num_workers=0))


WORKLOAD = Workload(
    name="a table of 40 columns in Parquet (`loaders/tables.py`)",
    unit="rows",
    script=__file__,
    corpus=make_corpus,
    look=look_at_any,
    files=lambda corpus: corpus.shards,
    versions=("torch", "datasets"),
    bounds=("scan: Parquet, 2 threads, tables as decoded", "memory: gather from row-major rows"),
    says=lambda corpus: f"{corpus.rows:,} rows of 13 float32 and 27 int32, zstd Parquet, row groups of {GROUP:,},"
    f" batches of {BATCH:,}",
    contenders={
        "scan: Parquet, 2 threads, tables as decoded": Contender(make=scan(widen=False), order="none", cold=True),
        "scan, widened to int64": Contender(make=scan(widen=True), order="none"),
        "memory: gather from row-major rows": Contender(make=row_major),
        "datapipe": Contender(make=ours(), needs="datapipe", order="window", cold=True),
        "datapipe, integers as stored": Contender(make=ours(dtypes="stored"), needs="datapipe", order="window"),
        "datapipe, 13 columns normalised": Contender(make=encoded, needs="datapipe", order="window"),
        "datapipe, prefetch=0": Contender(make=ours(prefetch=0), needs="datapipe", order="window"),
        "Hugging Face, streaming, arrow": Contender(make=hugging_face, needs="datasets", order="none", cold=True),
        "torch DataLoader, pools of 8 row groups": Contender(make=torch_pool, needs="torch", order="pool", cold=True),
        "Lance": Contender(make=lance, needs="lance", order="batches"),
    },
)  # fmt: skip

if __name__ == "__main__":
    main(WORKLOAD)
