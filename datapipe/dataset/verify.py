"""Verifying a dataset: every checksum, count and ledger, read from the bytes themselves.

What enters: where the dataset is. What leaves: a `VerifyReport` with every fault found. Invariant: a fault never
hides another; verify writes nothing.
"""

from __future__ import annotations

import io
import json
import os
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from datapipe.dataset.arrow_footer import batch_summaries
from datapipe.dataset.encryption import ContentDigest
from datapipe.dataset.keyring import as_keyring, is_locked, locked
from datapipe.dataset.manifest import MANIFEST_NAME, RowGroups, fields_of, parse_manifest
from datapipe.dataset.reader import Dataset, open_dataset
from datapipe.dataset.snapshots import snapshot_paths
from datapipe.dataset.writer import TOKENS_COLUMN, row_groups_of
from datapipe.errors import DatapipeError, EncryptionError
from datapipe.storage import checksum_bytes, open_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.dataset.keyring import Keyring
    from datapipe.dataset.manifest import FileEntry, Manifest, ShardEntry
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


def verify_dataset(
    url: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None, keys: Any = None
) -> VerifyReport:
    """Check a dataset against its manifest, or decode every row of a bare folder.

    With a manifest: its own validity and fingerprint, and its fields; of each shard the size, checksum, schema, and of
    each row group rows, tokens, place and sizes (an Arrow batch's `uncompressed` is an estimate, and not compared); the
    vocabulary's size and checksum; that each split's ledger adds up and its documents are those its shard holds.

    Of encrypted columns sizes and checksums alone are compared where `keys` (see `open_dataset`) are not given: a note
    says so. With them, also the digest of the rows.

    Raises:
        StorageError: the place itself cannot be read. Everything below that is a fault in the report.
    """
    url = os.fspath(url)
    store = open_store(url, storage_options=storage_options)
    if not store.exists(MANIFEST_NAME):
        return _verify_bare(open_dataset(url, storage_options=storage_options, keys=keys))
    keyring = as_keyring(keys)
    try:
        manifest = parse_manifest(store.read(MANIFEST_NAME), where=f"{store.url}/{MANIFEST_NAME}")
    except DatapipeError as error:
        return VerifyReport(url=store.url, fingerprint=None, faults=((MANIFEST_NAME, str(error)),))
    faults: list[tuple[str, str]] = []
    if manifest.fields != fields_of(manifest.schema):
        faults.append((MANIFEST_NAME, "its fields are not those of its Arrow schema"))
    for shard in manifest.shards:
        faults += [(shard.path, fault) for fault in _shard_faults(store, manifest, shard, keyring)]
    faults += _vocabulary_faults(store, manifest) + _ledger_faults(manifest)
    for entry in (*manifest.sources, *(each.file for each in manifest.index)):
        faults += [(entry.path, fault) for fault in _file_faults(store, entry)]
    before, known = _snapshot_faults(store, manifest)
    faults += before
    stray = [entry.path for entry in store.list("data") if entry.path not in known]
    notes = [f"{path} is not listed in the manifest (left by an unfinished run)" for path in stray]
    if manifest.encryption is not None and keyring is None:
        notes.append("its rows are encrypted, and were not decoded: --keys module:callable to have them compared, too")
    return VerifyReport(
        url=store.url,
        fingerprint=manifest.fingerprint,
        shards=len(manifest.shards),
        rows=manifest.rows,
        bytes=sum(shard.bytes for shard in manifest.shards),
        faults=tuple(faults),
        notes=tuple(notes),
    )


def _shard_faults(store: Store, manifest: Manifest, shard: ShardEntry, keyring: Keyring | None = None) -> list[str]:
    try:
        data = store.read(shard.path)
    except DatapipeError as error:
        return [error.got]
    if len(data) != shard.bytes:
        return [f"{len(data):,} bytes, the manifest says {shard.bytes:,}"]
    if (found := checksum_bytes(data)) != shard.checksum.value:
        return [f"checksum {found}, the manifest says {shard.checksum.value}"]
    if manifest.encryption is not None and keyring is None:
        return []
    try:
        digest = _digest_of(manifest, keyring)
        schema, found_groups = _contents(data, shard, keyring, digest)
    except EncryptionError as error:
        return [error.got]
    except (pa.ArrowException, OSError, ValueError, struct.error) as error:
        return [locked("it", keyring).got if is_locked(error) else f"cannot be decoded: {error}"]
    faults = []
    if digest is not None and digest.hexdigest() != shard.content:
        faults.append(f"the digest of its rows is {digest.hexdigest()}, the manifest says {shard.content}")
    if not schema.equals(manifest.schema, check_metadata=False):
        faults.append(f"its schema is not the manifest's: {', '.join(f'{f.name}: {f.type}' for f in schema)}")
    listed = shard.row_groups
    if found_groups.rows != listed.rows:
        faults.append(f"its row groups hold {list(found_groups.rows)} rows, the manifest says {list(listed.rows)}")
    if found_groups.tokens != listed.tokens:
        missing = "lists none" if listed.tokens is None else "says otherwise"
        faults.append(f"its tokens per row group are {found_groups.tokens}, the manifest {missing}")
    faults += [
        f"its row groups' {name} are not the manifest's"
        for name in ("offset", "bytes", "uncompressed")
        if getattr(found_groups, name) != getattr(listed, name)
    ]
    return faults


def _digest_of(manifest: Manifest, keyring: Keyring | None) -> ContentDigest | None:
    """A digest of rows, keyed as the manifest's are; None where nothing is encrypted."""
    entry = manifest.encryption
    if entry is None or keyring is None:
        return None
    return ContentDigest(keyring.secret(entry.footer_key, entry.secret)[0])


def _contents(
    data: bytes, shard: ShardEntry, keyring: Keyring | None, digest: ContentDigest | None
) -> tuple[pa.Schema, RowGroups]:
    """Decode everything: the schema, and what the manifest should say of the row groups."""
    buffer = pa.BufferReader(data)
    rows: list[int] = []
    tokens: list[int] = []

    def count(table: pa.Table) -> None:
        rows.append(table.num_rows)
        if TOKENS_COLUMN in table.column_names:
            tokens.append(sum(table.column(TOKENS_COLUMN).drop_null().to_numpy().tolist()))

    if shard.format == "parquet":
        opened = keyring.decryption() if keyring is not None else None
        file = pq.ParquetFile(buffer, page_checksum_verification=True, decryption_properties=opened)
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            count(table)
            if digest is not None:
                digest.add(table)
        schema = file.schema_arrow
        found = row_groups_of(file.metadata, tuple(tokens) if TOKENS_COLUMN in schema.names else None)
        return schema, found.model_copy(update={"rows": tuple(rows)})
    reader = pa.ipc.open_file(buffer)
    for batch in range(reader.num_record_batches):
        count(pa.Table.from_batches([reader.get_batch(batch)]))
    # A batch ends where its bytes end; they begin where those of the one before end (its dictionaries come with it).
    ends = [summary.end for summary in batch_summaries(io.BytesIO(data))]
    starts = [shard.row_groups.offset[0] if len(shard.row_groups) else 0, *ends][: len(ends)]
    return reader.schema, RowGroups(
        rows=tuple(rows),
        offset=tuple(starts),
        bytes=tuple(end - start for start, end in zip(starts, ends, strict=True)),
        uncompressed=shard.row_groups.uncompressed if len(shard.row_groups) == len(rows) else (0,) * len(rows),
        tokens=tuple(tokens) if TOKENS_COLUMN in reader.schema.names else None,
    )


def _vocabulary_faults(store: Store, manifest: Manifest) -> list[tuple[str, str]]:
    entry = manifest.vocabulary
    if entry is None:
        return []
    try:
        data = store.read(entry.path)
    except DatapipeError as error:
        return [(entry.path, error.got)]
    found = checksum_bytes(data)
    faults = [] if found == entry.checksum.value else [f"checksum {found}, not {entry.checksum.value}"]
    if len(data) != entry.bytes:
        faults.append(f"{len(data):,} bytes, the manifest says {entry.bytes:,}")
    if (size := _vocabulary_size(data)) is not None and size != entry.size:
        faults.append(f"{size:,} tokens, the manifest says {entry.size:,}")
    return [(entry.path, fault) for fault in faults]


def _file_faults(store: Store, entry: FileEntry) -> list[str]:
    try:
        data = store.read(entry.path)
    except DatapipeError as error:
        return [error.got]
    found = checksum_bytes(data)
    return [] if found == entry.checksum.value else [f"checksum {found}, the manifest says {entry.checksum.value}"]


def _snapshot_faults(store: Store, manifest: Manifest) -> tuple[list[tuple[str, str]], set[str]]:
    """Whether the snapshots before this one can still be opened, and the paths of the shards of all.

    What they list is among what is checked of the newest; or it is checked for itself, where shards were merged since.
    """
    listed = {shard.path: shard for shard in manifest.shards}
    faults = []
    for path in snapshot_paths(store).values():
        try:
            older = parse_manifest(store.read(path), where=f"{store.url}/{path}")
        except DatapipeError as error:
            faults.append((path, str(error)))
            continue
        for shard in older.shards:
            if shard.path not in listed:
                listed[shard.path] = shard
                faults += [(shard.path, fault) for fault in _shard_faults(store, older, shard)]
            elif listed[shard.path] != shard:
                faults.append((path, f"lists {shard.path}, which another snapshot does not have as it was"))
    return faults, set(listed)


def _vocabulary_size(data: bytes) -> int | None:
    """How many tokens a tokenizer.json has, those added to its model included; None where that cannot be told."""
    try:
        raw = json.loads(data)
        vocabulary = raw.get("model", {}).get("vocab", {})
        names = set(vocabulary) if isinstance(vocabulary, dict) else {token for token, _ in vocabulary}
        return len(names | {token["content"] for token in raw.get("added_tokens", ())})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


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
    if not manifest.ledger and (manifest.recipe is not None or any(s.documents is not None for s in manifest.shards)):
        faults.append(("ledger", "it is empty, and the dataset was made of documents"))
    documents = {s.path: s.rows if s.documents is None else s.documents for s in manifest.parts}
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
