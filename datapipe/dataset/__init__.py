"""The sharded dataset: plain Parquet or Arrow files and one manifest, published last.

    write_shard → build_manifest → publish          (preprocessing)
    open_dataset → Dataset.fetch(block).decode()    (loading)
    verify_dataset                                  (proof)

It is all that preprocessing and loading share.
"""

from datapipe.dataset.fetch import Fetched
from datapipe.dataset.index import DatasetIndex
from datapipe.dataset.manifest import (
    MANIFEST_NAME,
    Checksum,
    FileEntry,
    IndexEntry,
    LedgerEntry,
    Manifest,
    RowGroups,
    ShardEntry,
    build_manifest,
    content_fingerprint,
    parse_manifest,
)
from datapipe.dataset.reader import Dataset, RowGroup, open_dataset
from datapipe.dataset.snapshots import keep_snapshot, lineage, read_snapshot, snapshot_paths
from datapipe.dataset.verify import VerifyReport, verify_dataset
from datapipe.dataset.writer import publish, put_file_entry, sweep, write_shard

__all__ = [
    "MANIFEST_NAME",
    "Checksum",
    "Dataset",
    "DatasetIndex",
    "Fetched",
    "FileEntry",
    "IndexEntry",
    "LedgerEntry",
    "Manifest",
    "RowGroup",
    "RowGroups",
    "ShardEntry",
    "VerifyReport",
    "build_manifest",
    "content_fingerprint",
    "keep_snapshot",
    "lineage",
    "open_dataset",
    "parse_manifest",
    "publish",
    "put_file_entry",
    "read_snapshot",
    "snapshot_paths",
    "sweep",
    "verify_dataset",
    "write_shard",
]
