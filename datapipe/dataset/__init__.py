"""The sharded dataset: plain Parquet or Arrow files and one manifest, published last.

    write_shard → build_manifest → publish          (preprocessing)
    open_dataset → Dataset.fetch(block).decode()    (loading)
    verify_dataset                                  (proof)

It is all that preprocessing and loading share.
"""

from datapipe.dataset.compaction import compacted
from datapipe.dataset.encryption import EncryptionSettings, Sealing
from datapipe.dataset.fetch import Fetched
from datapipe.dataset.index import DatasetIndex
from datapipe.dataset.keyring import Keyring, as_keyring
from datapipe.dataset.manifest import (
    MANIFEST_NAME,
    Checksum,
    EncryptionEntry,
    FileEntry,
    IndexEntry,
    LedgerEntry,
    Manifest,
    PieceEntry,
    RowGroups,
    ShardEntry,
    build_manifest,
    content_fingerprint,
    parse_manifest,
)
from datapipe.dataset.reader import Dataset, open_dataset
from datapipe.dataset.retention import Expired, expire, named_by, roll_back, spared
from datapipe.dataset.row_groups import RowGroup
from datapipe.dataset.snapshots import (
    Snapshot,
    keep_snapshot,
    lineage,
    read_snapshot,
    snapshot_paths,
    snapshot_with_bytes,
    snapshots_of,
)
from datapipe.dataset.verify import VerifyReport, verify_dataset
from datapipe.dataset.writer import publish, put_file_entry, sweep, write_shard

__all__ = [
    "MANIFEST_NAME",
    "Checksum",
    "Dataset",
    "DatasetIndex",
    "EncryptionEntry",
    "EncryptionSettings",
    "Expired",
    "Fetched",
    "FileEntry",
    "IndexEntry",
    "Keyring",
    "LedgerEntry",
    "Manifest",
    "PieceEntry",
    "RowGroup",
    "RowGroups",
    "Sealing",
    "ShardEntry",
    "Snapshot",
    "VerifyReport",
    "as_keyring",
    "build_manifest",
    "compacted",
    "content_fingerprint",
    "expire",
    "keep_snapshot",
    "lineage",
    "named_by",
    "open_dataset",
    "parse_manifest",
    "publish",
    "put_file_entry",
    "read_snapshot",
    "roll_back",
    "snapshot_paths",
    "snapshot_with_bytes",
    "snapshots_of",
    "spared",
    "sweep",
    "verify_dataset",
    "write_shard",
]
