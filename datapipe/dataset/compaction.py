"""Small shards merged into larger ones, the rows and row groups as they were.

What enters: a store, a manifest. What leaves: a manifest of the same content, and the merged shards that it names.
Invariant: rows, row groups and their order stay, so that the fingerprint, the loader's order and every state saved
before hold for it too; the same shards give the same merged bytes. Nothing is published here and nothing removed.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from datapipe.dataset.manifest import PieceEntry, build_manifest, pieces_by_shard
from datapipe.dataset.writer import write_shard
from datapipe.errors import DatasetError, IntegrityError
from datapipe.storage import checksum_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from datapipe.dataset.manifest import Manifest, ShardEntry
    from datapipe.storage import Store

TARGET: Final = 128 << 20
"""Bytes of a merged shard, at most: its footer is some 0.1% of it, and to open 10^12 bytes takes 10^4 files."""


def runs_of_small(shards: Sequence[ShardEntry], target: int) -> list[tuple[int, int]]:
    """[first, last) of each run of neighbouring shards to merge: two or more of less than half the target each.

    A run ends before it would be larger than the target. What was merged is passed over once it is half the target.
    """
    runs: list[tuple[int, int]] = []
    first = size = 0
    for number, shard in enumerate([*shards, None]):
        small = shard is not None and 2 * shard.bytes < target
        same = shard is not None and number > first and shard.format == shards[first].format
        if small and shard is not None and number > first and same and size + shard.bytes <= target:
            size += shard.bytes
            continue
        if number - first > 1:
            runs.append((first, number))
        first = number if small else number + 1
        size = shard.bytes if small and shard is not None else 0
    return runs


def compacted(store: Store, manifest: Manifest, *, target: int = TARGET, scratch: str | None = None) -> Manifest | None:
    """A manifest of the same content in fewer shards, the next snapshot; None where there is nothing to merge.

    Args:
        target: bytes of a merged shard, at most. scratch: a local folder for one while it is written.

    Raises:
        StorageError: a shard cannot be read or written. IntegrityError: one is not what the manifest says.
    """
    if manifest.encryption is not None:
        raise DatasetError(
            f"{store.url} has encrypted columns, and its shards cannot be merged without keys",
            expected="a dataset without",
            fix="make it anew with a larger output.split_bytes",
        )
    runs = runs_of_small(manifest.shards, target)
    if not runs:
        return None
    shards: list[ShardEntry] = []
    done = 0
    for first, last in runs:
        shards += manifest.shards[done:first]
        shards.append(_merge(store, manifest, manifest.shards[first:last], first, scratch))
        done = last
    shards += manifest.shards[done:]
    made = build_manifest(
        manifest.schema,
        tuple(shards),
        pieces=tuple(
            PieceEntry(
                path=part.path, rows=part.rows, checksum=part.checksum, documents=part.documents, content=part.content
            )
            for part in manifest.parts
        ),
        **{
            name: getattr(manifest, name)
            for name in type(manifest).model_fields
            if name not in ("format", "version", "fingerprint", "arrow_schema", "fields", "shards", "pieces", "parent")
            and name != "snapshot"
        },
        parent=manifest.fingerprint,
        snapshot=manifest.snapshot + 1,
    )
    if made.fingerprint != manifest.fingerprint or pieces_by_shard(made) is None:
        raise DatasetError(
            f"{store.url}: merging its shards would change its content",
            expected="the same rows",
            fix="report this; nothing was changed",
        )
    return made


def _merge(store: Store, manifest: Manifest, shards: Sequence[ShardEntry], number: int, scratch: str | None) -> Any:
    kind: Literal["parquet", "arrow"] = shards[0].format
    made = write_shard(
        store,
        f"data/merged-{number:05d}",
        (group for shard in shards for group in _row_groups(store, shard)),
        schema=manifest.schema,
        row_group_rows=None,
        format=kind,
        compression=_compression(store, manifest, shards[0]),
        documents=None if shards[0].documents is None else sum(shard.documents or 0 for shard in shards),
        scratch=scratch,
    )
    rows = [rows for shard in shards for rows in shard.row_groups.rows]
    if made is None or list(made.row_groups.rows) != rows:
        raise DatasetError(f"{store.url}: merged row groups differ", expected=f"{len(rows)} of them, as they were")
    return made


def _row_groups(store: Store, shard: ShardEntry) -> Iterator[pa.Table]:
    """The row groups of a shard, whose bytes are what the manifest says."""
    data = store.read(shard.path)
    if (found := checksum_bytes(data)) != shard.checksum.value:
        raise IntegrityError(
            f"{store.url}/{shard.path}: checksum {found}",
            expected=f"{shard.checksum.value}, as the manifest says",
            fix="restore the file from a copy; nothing was changed",
        )
    if shard.format == "parquet":
        file = pq.ParquetFile(io.BytesIO(data))
        for group in range(file.num_row_groups):
            yield file.read_row_group(group).combine_chunks()
        return
    reader = pa.ipc.open_file(pa.py_buffer(data))
    for batch in range(reader.num_record_batches):
        yield pa.Table.from_batches([reader.get_batch(batch)])


def _compression(store: Store, manifest: Manifest, shard: ShardEntry) -> str:
    """As the shards are compressed already."""
    if shard.format == "arrow":
        recipe = manifest.recipe or {}
        return str(recipe.get("output", {}).get("compression", "zstd"))
    footer = pq.read_metadata(io.BytesIO(store.read(shard.path)))
    if not footer.num_row_groups or not footer.num_columns:
        return "zstd"
    codec = str(footer.row_group(0).column(0).compression).lower()
    return {"uncompressed": "none", "lz4_raw": "lz4"}.get(codec, codec)
