"""What holds for every test, in every room."""

from __future__ import annotations

import gc
import signal

import hypothesis
import pyarrow as pa
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


ROWS = pa.schema([("row", pa.int64()), ("text", pa.string())])


def delivered(store, n, *, format="parquet", row_group_rows=2):
    """Add a delivery of `n` rows to a dataset, as a snapshot of one more shard: its manifest. Rows are numbered."""
    from datapipe.dataset import (
        LedgerEntry,
        build_manifest,
        keep_snapshot,
        publish,
        put_file_entry,
        read_snapshot,
        write_shard,
    )
    from datapipe.dataset.manifest import MANIFEST_NAME, PieceEntry

    before = read_snapshot(store) if store.exists(MANIFEST_NAME) else None
    split, first = (0, 0) if before is None else (len(before.ledger), before.rows)
    rows = range(first, first + n)
    table = pa.table({"row": list(rows), "text": [f"row {row}" for row in rows]}, schema=ROWS)
    stem = f"data/part-{split:05d}"
    shard = write_shard(store, stem, [table], schema=ROWS, row_group_rows=row_group_rows, format=format)
    pieces = ()
    if before is not None and before.pieces:
        pieces = (*before.pieces, PieceEntry(path=shard.path, rows=n, checksum=shard.checksum))
    manifest = build_manifest(
        ROWS,
        (*(before.shards if before else ()), shard),
        ledger=(*(before.ledger if before else ()), LedgerEntry(split=split, documents_in=n, out=n, shard=shard.path)),
        sources=(*(before.sources if before else ()), put_file_entry(store, f"index/sources/{split:032d}.json", b"[]")),
        snapshot=before.snapshot + 1 if before else 0,
        parent=before.fingerprint if before else None,
        pieces=pieces,
    )
    if before is not None:
        keep_snapshot(store, before)
    publish(store, manifest)
    return manifest


@pytest.fixture
def grown(tmp_path):
    """`grown(sizes, …)`: the store of a new dataset of so many deliveries; `grown.more(store, n)` adds one."""
    from datapipe.storage import open_store

    count = iter(range(1000))

    def make(sizes=(5, 4, 3), **more):
        store = open_store(str(tmp_path / f"grown-{next(count)}"))
        for n in sizes:
            delivered(store, n, **more)
        return store

    make.more = delivered
    return make


@pytest.fixture(scope="session")
def s3_endpoint():
    """S3 as moto serves it, on a free port of loopback."""
    pytest.importorskip("s3fs", reason="the s3 extra is not installed")
    server_module = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
