"""What holds for every test, in every room."""

from __future__ import annotations

import gc
import signal

import hypothesis
import pytest

# A busy machine is no fault of what is tested.
hypothesis.settings.register_profile("no clock", deadline=None)
hypothesis.settings.load_profile("no clock")


def pytest_configure() -> None:
    """A shell's background job ignores Ctrl-C and all that it starts inherits that; the tests send Ctrl-C."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """The tests themselves are a large heap that stays: without it a collection takes a tenth of the time."""
    gc.collect()
    gc.freeze()


def line_of_deliveries(folder, sizes=(5, 4, 3), *, format="parquet", row_group_rows=2):
    """A published dataset of one shard per delivery, each a snapshot: the store. Rows are numbered in `row`."""
    import pyarrow as pa

    from datapipe.dataset import LedgerEntry, build_manifest, keep_snapshot, publish, put_file_entry, write_shard
    from datapipe.storage import open_store

    schema = pa.schema([("row", pa.int64()), ("text", pa.string())])
    store = open_store(str(folder))
    shards, ledger, sources, before, first = (), (), (), None, 0
    for number, n in enumerate(sizes):
        rows = range(first, first + n)
        table = pa.table({"row": list(rows), "text": [f"row {row}" for row in rows]}, schema=schema)
        stem = f"data/part-{number:05d}"
        shard = write_shard(store, stem, [table], schema=schema, row_group_rows=row_group_rows, format=format)
        shards += (shard,)
        ledger += (LedgerEntry(split=number, documents_in=n, out=n, shard=shard.path),)
        sources += (put_file_entry(store, f"index/sources/{number:032d}.json", b"[]"),)
        manifest = build_manifest(
            schema, shards, ledger=ledger, sources=sources, snapshot=number,
            parent=None if before is None else before.fingerprint,
        )  # fmt: skip
        if before is not None:
            keep_snapshot(store, before)
        publish(store, manifest)
        before, first = manifest, first + n
    return store


@pytest.fixture
def grown(tmp_path):
    """`grown(sizes, …)`: the store of a new dataset of so many deliveries, see `line_of_deliveries`."""
    count = iter(range(1000))

    def make(sizes=(5, 4, 3), **more):
        return line_of_deliveries(tmp_path / f"grown-{next(count)}", sizes, **more)

    return make
