"""Small datasets to open, break and verify."""

import pyarrow as pa
import pytest

from datapipe.dataset import LedgerEntry, build_manifest, publish, put_file_entry, write_shard
from datapipe.storage import open_store

SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("tokens", pa.list_(pa.int32(), 4), nullable=False),
        pa.field("n_tokens", pa.int32(), nullable=False),
    ]
)


def rows(start: int, n: int) -> pa.Table:
    ids = range(start, start + n)
    return pa.table(
        {
            "row_id": [f"doc:{i}" for i in ids],
            "tokens": pa.array([[i, i + 1, i + 2, i + 3] for i in ids], SCHEMA.field("tokens").type),
            "n_tokens": pa.array([4] * n, pa.int32()),
        },
        schema=SCHEMA,
    )


@pytest.fixture(params=["parquet", "arrow"])
def made(request, tmp_path):
    """A published dataset of two shards, 10 and 7 rows in row groups of 4; returns (folder, manifest)."""
    store = open_store(str(tmp_path / "ds"))
    shards = tuple(
        write_shard(
            store,
            f"data/part-{i:05d}",
            [rows(start, n)],
            schema=SCHEMA,
            row_group_rows=4,
            format=request.param,
            documents=n,
        )
        for i, (start, n) in enumerate([(0, 10), (10, 7)])
    )
    vocabulary = put_file_entry(store, "tokenizer.json", b"{}", size=0)
    ledger = tuple(
        LedgerEntry(
            split=i, documents_in=n + 3, out=n, dropped={"short": 1}, duplicates=1, quarantined={"bad": 1}, shard=s.path
        )
        for i, (n, s) in enumerate(zip((10, 7), shards, strict=True))
    )
    manifest = build_manifest(SCHEMA, shards, vocabulary=vocabulary, ledger=ledger, recipe={"name": "t", "steps": []})
    publish(store, manifest)
    return tmp_path / "ds", manifest
