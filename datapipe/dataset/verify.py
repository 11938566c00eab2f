"""Verifying a dataset: every checksum, count and ledger, read from the bytes themselves.

What enters: where the dataset is. What leaves: a `VerifyReport` with every fault found. Invariant: a fault never
hides another; verify writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from datapipe.dataset.manifest import MANIFEST_NAME, parse_manifest
from datapipe.dataset.reader import Dataset, open_dataset
from datapipe.errors import DatapipeError
from datapipe.storage import checksum_bytes, open_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.dataset.manifest import Manifest, ShardEntry
    from datapipe.storage import Store


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What was checked and what was wrong; `ok` when nothing was.

    `faults` are pairs of (path, what is wrong); `notes` are things a person may want to know that are no fault.
    """

    url: str
    fingerprint: str | None
    shards: int = 0
    rows: int = 0
    bytes: int = 0
    faults: tuple[tuple[str, str], ...] = field(default=())
    notes: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether no fault was found."""
        return not self.faults


def verify_dataset(url: str, *, storage_options: Mapping[str, Any] | None = None) -> VerifyReport:
    """Check a dataset against its manifest, or decode every row of a bare folder.

    With a manifest: its own validity and fingerprint; of each shard the size, checksum, schema, rows and tokens per
    row group; the vocabulary's checksum; that each split's ledger adds up and its documents are those its shard holds.

    Raises:
        StorageError: the place itself cannot be read. Everything below that is a fault in the report.
    """
    store = open_store(url, storage_options=storage_options)
    if not store.exists(MANIFEST_NAME):
        return _verify_bare(open_dataset(url, storage_options=storage_options))
    try:
        manifest = parse_manifest(store.read(MANIFEST_NAME), where=f"{store.url}/{MANIFEST_NAME}")
    except DatapipeError as error:
        return VerifyReport(url=store.url, fingerprint=None, faults=((MANIFEST_NAME, str(error)),))
    faults: list[tuple[str, str]] = []
    for shard in manifest.shards:
        faults += [(shard.path, fault) for fault in _shard_faults(store, manifest, shard)]
    faults += _vocabulary_faults(store, manifest) + _ledger_faults(manifest)
    known = {shard.path for shard in manifest.shards}
    stray = [entry.path for entry in store.list("data") if entry.path not in known]
    return VerifyReport(
        url=store.url,
        fingerprint=manifest.fingerprint,
        shards=len(manifest.shards),
        rows=manifest.rows,
        bytes=sum(shard.bytes for shard in manifest.shards),
        faults=tuple(faults),
        notes=tuple(f"{path} is not listed in the manifest (left by an unfinished run)" for path in stray),
    )


def _shard_faults(store: Store, manifest: Manifest, shard: ShardEntry) -> list[str]:
    try:
        data = store.read(shard.path)
    except DatapipeError as error:
        return [error.got]
    if len(data) != shard.bytes:
        return [f"{len(data):,} bytes, the manifest says {shard.bytes:,}"]
    if (found := checksum_bytes(data)) != shard.checksum.value:
        return [f"checksum {found}, the manifest says {shard.checksum.value}"]
    try:
        schema, rows, tokens = _contents(data, shard)
    except (pa.ArrowException, OSError) as error:
        return [f"cannot be decoded: {error}"]
    faults = []
    if not schema.equals(manifest.schema, check_metadata=False):
        faults.append(f"its schema is not the manifest's: {', '.join(f'{f.name}: {f.type}' for f in schema)}")
    if rows != list(shard.row_groups.rows):
        faults.append(f"its row groups hold {rows} rows, the manifest says {list(shard.row_groups.rows)}")
    if shard.row_groups.tokens is not None and tokens != list(shard.row_groups.tokens):
        faults.append("its tokens per row group are not the manifest's")
    return faults


def _contents(data: bytes, shard: ShardEntry) -> tuple[pa.Schema, list[int], list[int]]:
    """Decode everything: schema, rows and tokens of each row group."""
    buffer = pa.BufferReader(data)
    rows, tokens = [], []
    if shard.format == "parquet":
        file = pq.ParquetFile(buffer, page_checksum_verification=True)
        schema = file.schema_arrow
        tables = (file.read_row_group(g) for g in range(file.num_row_groups))
    else:
        reader = pa.ipc.open_file(buffer)
        schema = reader.schema
        tables = (pa.Table.from_batches([reader.get_batch(b)]) for b in range(reader.num_record_batches))
    for table in tables:
        rows.append(table.num_rows)
        if "n_tokens" in table.column_names:
            tokens.append(sum(table.column("n_tokens").to_numpy().tolist()))
    return schema, rows, tokens


def _vocabulary_faults(store: Store, manifest: Manifest) -> list[tuple[str, str]]:
    entry = manifest.vocabulary
    if entry is None:
        return []
    try:
        data = store.read(entry.path)
    except DatapipeError as error:
        return [(entry.path, error.got)]
    found = checksum_bytes(data)
    return [] if found == entry.checksum.value else [(entry.path, f"checksum {found}, not {entry.checksum.value}")]


def _ledger_faults(manifest: Manifest) -> list[tuple[str, str]]:
    faults = []
    for entry in manifest.ledger:
        name = f"ledger of split {entry.split}"
        if entry.unaccounted:
            faults.append(
                (
                    name,
                    f"{entry.unaccounted:+} rows unaccounted for: in ≠ out + dropped + duplicates + quarantined",
                )
            )
    documents = {s.path: s.rows if s.documents is None else s.documents for s in manifest.shards}
    if manifest.ledger:
        kept: dict[str, int] = {}
        for entry in manifest.ledger:
            if entry.shard is not None:
                kept[entry.shard] = kept.get(entry.shard, 0) + entry.out
            elif entry.out:
                faults.append((f"ledger of split {entry.split}", f"{entry.out} rows out, and no shard that holds them"))
        faults += [
            (path, f"holds {n} documents, its ledger says {kept.get(path, 0)}")
            for path, n in documents.items()
            if kept.get(path, 0) != n
        ]
        faults += [(path, "named in the ledger, not listed as a shard") for path in kept.keys() - documents.keys()]
    return faults


def _verify_bare(dataset: Dataset) -> VerifyReport:
    faults = []
    size = 0
    for block, group in enumerate(dataset.row_groups):
        try:
            fetched = dataset.fetch(block)
            rows = fetched.decode().num_rows
            size += fetched.nbytes
        except DatapipeError as error:
            faults.append((group.path, error.got))
            continue
        if rows != group.rows:
            faults.append((group.path, f"row group {group.group} holds {rows} rows, its footer says {group.rows}"))
    return VerifyReport(
        url=dataset.url,
        fingerprint=dataset.fingerprint,
        shards=len(dataset.index.paths),
        rows=dataset.num_rows,
        bytes=size,
        faults=tuple(faults),
        notes=("there is no manifest: rows were decoded, but there are no checksums or ledgers to compare with",),
    )
