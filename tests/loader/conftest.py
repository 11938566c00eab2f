"""Datasets for the loader's tests: in memory (fast, for properties) and on disk (the real thing)."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.loader import executor as executor_module
from datapipe.loader import workshop as workshop_module
from tests.loader.loader_threads import loader_threads

# Worker processes import the transforms that they are given: from a file, by the path that they get from here.
sys.path.insert(0, str(Path(__file__).parent))


class MemoryFetched:
    def __init__(self, table):
        self.nbytes = table.nbytes
        self._table = table

    def decode(self):
        return self._table


class MemoryIndex:
    def __init__(self, tables):
        self.rows = np.array([t.num_rows for t in tables], np.int64)
        self.bytes = np.array([t.nbytes for t in tables], np.int64)
        self.first = np.concatenate([[0], np.cumsum(self.rows)]).astype(np.int64)

    def __len__(self):
        return len(self.rows)


class MemoryDataset:
    """What the loader needs of a dataset; counts its reads, and fails or waits on a block where told to."""

    def __init__(self, tables, schema, fingerprint="memory"):
        self.tables = tables
        self.schema = schema
        self.fingerprint = fingerprint
        self.index = MemoryIndex(tables)
        self.row_groups = [SimpleNamespace(path="shard-0", group=i) for i in range(len(tables))]
        self.reads = []
        self.fails = {}
        self.gate = None
        self._lock = threading.Lock()

    def row_numbers(self, blocks, rows):
        return self.index.first[blocks] + rows

    @property
    def whole_schema(self):
        return self.tables[0].schema if self.tables else self.schema

    def select(self, columns):
        return MemoryDataset([t.select(columns) for t in self.tables], self.whole_schema_of(columns), self.fingerprint)

    def whole_schema_of(self, columns):
        return pa.schema([self.whole_schema.field(name) for name in columns])

    def fetch(self, block):
        with self._lock:
            self.reads.append(block)
        if self.gate is not None:
            self.gate.wait()
        if block in self.fails:
            raise self.fails[block]
        return MemoryFetched(self.tables[block])


def rich_table(ids):
    """Every kind of column, each computable from the row's id."""
    n = len(ids)
    ids = np.asarray(ids, np.int64)
    tokens = ((ids[:, None] * 10 + np.arange(6)) % 65536).astype(np.uint16)
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "small": pa.array(ids % 100, pa.int8()),
            "f": pa.array(ids * 0.5, pa.float32()),
            "b": pa.array(ids % 3 == 0),
            "tokens": pa.FixedSizeListArray.from_arrays(pa.array(tokens.ravel()), 6),
            "segment_ids": pa.FixedSizeListArray.from_arrays(
                pa.array(np.tile([1, 1, 2, 2, 2, 0], n).astype(np.uint16)), 6
            ),
            "s": pa.array([f"row {i}" for i in ids], pa.string()),
            "raw": pa.array([str(i).encode() for i in ids], pa.binary()),
            "ragged": pa.array([list(range(i % 4)) for i in ids], pa.list_(pa.int16())),
            "when": pa.array(ids, pa.timestamp("us")),
            "label": pa.DictionaryArray.from_arrays(pa.array(ids % 3, pa.int8()), [f"label {i}" for i in range(3)]),
        }
    )


def check_row(batch, at):
    """A delivered row is, in every column, the row that its id says."""
    i = int(batch["id"][at])
    assert batch["small"][at] == i % 100
    assert batch["f"][at] == i * 0.5
    assert bool(batch["b"][at]) == (i % 3 == 0)
    assert batch["tokens"][at].tolist() == [(i * 10 + k) % 65536 for k in range(6)]
    assert batch["position_ids"][at].tolist() == [0, 1, 0, 1, 2, 0]
    assert batch["s"][at] == f"row {i}"
    assert batch["raw"][at] == str(i).encode()
    assert batch["ragged"][at][: i % 4].tolist() == list(range(i % 4))
    assert batch["ragged_lengths"][at] == i % 4
    assert not batch["ragged"][at][i % 4 :].any()
    assert batch["when"][at] == i
    assert batch["label"][at] == f"label {i % 3}"


@pytest.fixture(scope="session")
def memory():
    """Sizes of row groups → a dataset in memory with the one column `id`, or every kind of column."""

    def make(sizes, rich=False, fingerprint="memory"):
        first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        spans = [np.arange(a, b) for a, b in zip(first[:-1], first[1:], strict=True)]
        tables = [rich_table(ids) if rich else pa.table({"id": pa.array(ids, pa.int64())}) for ids in spans]
        schema = tables[0].schema if tables else pa.schema([("id", pa.int64())])
        return MemoryDataset(tables, schema, fingerprint)

    return make


@pytest.fixture
def of_tables():
    """Tables → a dataset in memory, one row group each."""
    return lambda *tables: MemoryDataset(list(tables), tables[0].schema)


@pytest.fixture(scope="session")
def stored(tmp_path_factory):
    """Sizes of row groups, format → an opened dataset on disk, every kind of column, two shards."""
    from datapipe.dataset import open_dataset

    def make(sizes, form):
        folder = tmp_path_factory.mktemp("stored")
        half = len(sizes) // 2
        first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        for shard, part in enumerate((range(half), range(half, len(sizes)))):
            path = folder / f"part-{shard}.{form}"
            schema = rich_table([0]).schema
            if form == "parquet":
                with pq.ParquetWriter(path, schema) as writer:
                    for g in part:
                        writer.write_table(rich_table(np.arange(first[g], first[g + 1])))
            else:
                with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                    for g in part:
                        table = rich_table(np.arange(first[g], first[g + 1]))
                        writer.write_batch(table.combine_chunks().to_batches()[0])
        return open_dataset(str(folder))

    return make


@pytest.fixture(scope="session")
def check():
    return check_row


@pytest.fixture(params=["cheap", "dear"])
def regime(request, monkeypatch):
    """Batches made by the consumer, and batches made by the threads."""
    monkeypatch.setattr(workshop_module, "CHEAP_NS", 1 << 60 if request.param == "cheap" else 0)
    return request.param


@pytest.fixture(autouse=True, scope="module")
def closing_waits_for_every_thread():
    """`close` waits 0.9 s, in which a busy machine may not run a thread at all: that it ends them all is seen later."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor_module, "JOIN_SECONDS", 60)
        yield


@pytest.fixture
def no_thread_is_left():
    yield
    gc.collect()
    for thread in loader_threads():
        thread.join(60)
    assert not loader_threads()
