"""Writing shards, and publishing them as a dataset.

What enters: Arrow tables of one schema. What leaves: shard files under names that carry their checksum, then one
manifest, last.
Invariant: the same tables give the same bytes and so the same names; a reader sees the old dataset or the new one,
never a mixture, because shards are only ever added before the manifest is replaced in one step.
"""

from __future__ import annotations

import os
import re
import tempfile
from typing import TYPE_CHECKING, Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datapipe.dataset.encryption import rows_digest
from datapipe.dataset.manifest import (
    MANIFEST_NAME,
    Checksum,
    FileEntry,
    Manifest,
    RowGroups,
    ShardEntry,
    parse_manifest,
    safe_path,
)
from datapipe.dataset.snapshots import lineage, snapshot_paths
from datapipe.errors import ConfigError, OutputError
from datapipe.storage import checksum_bytes, checksum_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from datapipe.dataset.encryption import Sealing
    from datapipe.storage import Store

_SHARD_NAME: Final = re.compile(r".+-[0-9a-f]{8}\.(?:parquet|arrow)")
TOKENS_COLUMN = "n_tokens"
"""Summed per row group into the manifest, so that a loader can plan packing and cost from metadata alone."""


def write_shard(
    store: Store,
    stem: str,
    tables: Iterable[pa.Table],
    *,
    schema: pa.Schema,
    row_group_rows: int | None,
    format: Literal["parquet", "arrow"] = "parquet",  # noqa: A002  (the field's own word)
    compression: str = "zstd",
    documents: int | None = None,
    scratch: str | None = None,
    sealing: Sealing | None = None,
) -> ShardEntry | None:
    """Write one shard as `<stem>-<8 hex digits of its checksum>.<format>` and return its entry; None if it has no rows.

    Args:
        stem: path without ending, relative to the store ("data/part-00003").
        tables: rows of `schema`, in any cut: row groups are cut anew, `row_group_rows` rows each but the last.
        row_group_rows: None: each table is a row group, as it comes.
        compression: a Parquet codec, or for Arrow "zstd", "lz4" or "none".
        documents: how many input documents the rows hold, where they were packed.
        scratch: a local folder for the file while it is written; the system's by default.
        sealing: of Parquet, what columns are encrypted by: the file on its way is encrypted, too.

    Raises:
        ConfigError: Arrow files cannot be encrypted, or the rows lack a column that is to be.
        StorageError: NoSpaceError among them; nothing visible is left behind.
    """
    if sealing is not None and format != "parquet":
        raise ConfigError("columns of an Arrow file are to be encrypted", expected="output.format: parquet")
    handle, local = tempfile.mkstemp(prefix="datapipe-", suffix=f".{format}", dir=scratch)
    os.close(handle)
    try:
        cut = tables if row_group_rows is None else _regroup(tables, schema, row_group_rows)
        if format == "parquet":
            groups = _write_parquet(local, cut, schema, compression, sealing)
        else:
            groups = _write_arrow(local, cut, schema, compression)
        rows = sum(groups.rows)
        if rows == 0:
            return None
        content = None if sealing is None else rows_digest(local, sealing.keyring, sealing.digest())
        digest = checksum_file(local)
        size = os.path.getsize(local)  # noqa: PTH202  (a plain path)
        path = safe_path(f"{stem}-{digest[:8]}.{format}")
        store.put_file(path, local)
    finally:
        if os.path.exists(local):  # noqa: PTH110
            os.unlink(local)  # noqa: PTH108
    return ShardEntry(
        path=path,
        format=format,
        rows=rows,
        bytes=size,
        checksum=Checksum(value=digest),
        row_groups=groups,
        documents=documents,
        content=content,
    )


def put_file_entry(store: Store, path: str, data: bytes, *, size: int = 0) -> FileEntry:
    """Store a further file of the dataset (a tokenizer) and return its entry."""
    store.put(safe_path(path), data)
    return FileEntry(path=path, bytes=len(data), checksum=Checksum(value=checksum_bytes(data)), size=size)


def publish(store: Store, manifest: Manifest, *, over: Manifest | None = None) -> str:
    """Put the manifest in place, atomically and last, and return the fingerprint.

    Shards of the dataset that was there before stay until `sweep` removes them.

    Args:
        over: the snapshot that this one takes the place of; None: whatever is there.

    Raises:
        OutputError: another than `over` is there: who lost a remote output's lease must not take a delivery back.
    """
    data = manifest.to_json()
    if over is None:
        store.put(MANIFEST_NAME, data)
        return manifest.fingerprint
    now, there = store.info(MANIFEST_NAME), store.read(MANIFEST_NAME)
    found = parse_manifest(there, where=f"{store.url}/{MANIFEST_NAME}")
    if (found.fingerprint, found.snapshot) != (over.fingerprint, over.snapshot):
        raise published_meanwhile(store)
    if not store.put_if(MANIFEST_NAME, data, now) and store.read(MANIFEST_NAME) != data:
        raise published_meanwhile(store)
    return manifest.fingerprint


def published_meanwhile(store: Store) -> OutputError:
    """The error of who was about to publish over something else than it began with."""
    return OutputError(
        f"another run has published a snapshot of {store.url} since this one began",
        expected="one run at a time on an output",
        fix="run the same command again: it is compared with what is there now, and what is done is kept",
    )


def sweep(store: Store, manifest: Manifest, folder: str = "data", *, spare: Collection[str] = ()) -> list[str]:
    """Delete the shards in `folder` that neither the published manifest nor a snapshot before it lists; their paths.

    Only names that `write_shard` gives are shards: what somebody else put there stays.

    Args:
        spare: paths that stay as well: readers may be at them (`retention.spared`).
    """
    keep = {shard.path for shard in manifest.shards}.union(spare)
    gone = [entry.path for entry in store.list(folder) if entry.path not in keep and _SHARD_NAME.fullmatch(entry.path)]
    if not gone and manifest.parent is not None:
        return []  # what deliveries are appended to lists nothing else: the snapshots before need not be read
    line = lineage(store, manifest)
    keep = {shard.path for each in line for shard in each.shards}
    gone = [path for path in gone if path not in keep]
    numbers = {each.snapshot for each in line[:-1]}
    gone += [path for number, path in snapshot_paths(store).items() if number not in numbers]
    for path in gone:
        store.delete(path)
    return gone


def _regroup(tables: Iterable[pa.Table], schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """The same rows as tables of exactly `rows` rows (the last may have fewer), whatever the cut they came in."""
    # The empty table makes Arrow copy even a single slice: else an IPC file would show where its rows were cut.
    empty = schema.empty_table()
    held: list[pa.Table] = [empty]
    count = 0
    for table in tables:
        rest = table.cast(schema) if table.schema != schema else table
        while rest.num_rows:
            part = rest.slice(0, rows - count)
            rest = rest.slice(part.num_rows)
            held.append(part)
            count += part.num_rows
            if count == rows:
                yield pa.concat_tables(held).combine_chunks()
                held, count = [empty], 0
    if count:
        yield pa.concat_tables(held).combine_chunks()


def _write_parquet(
    path: str, groups: Iterable[pa.Table], schema: pa.Schema, compression: str, sealing: Sealing | None
) -> RowGroups:
    tokens: list[int] | None = [] if TOKENS_COLUMN in schema.names else None
    # Dictionaries pay for repeated strings; token lists and numbers only lose decode speed by them.
    dictionary = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    options: dict[str, Any] = {"use_dictionary": dictionary, "write_page_checksum": True}
    if sealing is not None:
        options["encryption_properties"] = sealing.properties(schema)
    with pq.ParquetWriter(path, schema, compression=compression, **options) as writer:
        for table in groups:
            writer.write_table(table, row_group_size=max(1, table.num_rows))
            if tokens is not None:
                tokens.append(_token_sum(table))
    opened = sealing.keyring.decryption() if sealing is not None else None
    meta = pq.read_metadata(path, decryption_properties=opened)
    return row_groups_of(meta, None if tokens is None else tuple(tokens))


def row_groups_of(meta: pq.FileMetaData, tokens: tuple[int, ...] | None) -> RowGroups:
    """What a manifest says of a Parquet file's row groups, from its footer."""
    chunks = [[meta.row_group(g).column(c) for c in range(meta.num_columns)] for g in range(meta.num_row_groups)]
    return RowGroups(
        rows=tuple(meta.row_group(g).num_rows for g in range(meta.num_row_groups)),
        offset=tuple(min(c.dictionary_page_offset or c.data_page_offset for c in group) for group in chunks),
        bytes=tuple(sum(c.total_compressed_size for c in group) for group in chunks),
        uncompressed=tuple(sum(c.total_uncompressed_size for c in group) for group in chunks),
        tokens=tokens,
    )


def _write_arrow(path: str, groups: Iterable[pa.Table], schema: pa.Schema, compression: str) -> RowGroups:
    options = pa.ipc.IpcWriteOptions(compression=None if compression == "none" else compression)
    counted: list[tuple[int, int, int, int, int]] = []
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, schema, options=options) as writer:
        for table in groups:
            start = sink.tell()
            writer.write_batch(table.to_batches()[0])
            tokens = _token_sum(table) if TOKENS_COLUMN in schema.names else 0
            counted.append((table.num_rows, start, sink.tell() - start, table.nbytes, tokens))
    rows, offset, stored, uncompressed, tokens_ = zip(*counted, strict=True) if counted else ((),) * 5
    return RowGroups(
        rows=rows,
        offset=offset,
        bytes=stored,
        uncompressed=uncompressed,
        tokens=tokens_ if TOKENS_COLUMN in schema.names else None,
    )


def _token_sum(table: pa.Table) -> int:
    return int(pc.sum(table.column(TOKENS_COLUMN)).as_py() or 0)
