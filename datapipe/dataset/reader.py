"""Opening a dataset: a folder or URL of shards, with a manifest or without.

What enters: where it is, and which columns are wanted. What leaves: a `Dataset`: its index, its fingerprint, and
row groups on demand.
Invariant: opening reads the manifest, or the footers, and no row; a `Dataset` never changes once opened.
"""

from __future__ import annotations

import difflib
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final, overload

import numpy as np
import pyarrow as pa

from datapipe.dataset.fetch import Fetched, Shards
from datapipe.dataset.index import SUFFIXES, DatasetIndex, index_of_folder, index_of_manifest
from datapipe.dataset.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest
from datapipe.dataset.snapshots import read_snapshot
from datapipe.errors import ConfigError, DatasetError, ManifestError, NotFoundError, SchemaError
from datapipe.storage import open_store, split_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from datapipe.storage import Entry, Store


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """One block: its shard's path, its number there, its rows, and its uncompressed bytes."""

    path: str
    group: int
    rows: int
    bytes: int


@final
class RowGroups(Sequence[RowGroup]):
    """The blocks of a dataset as a sequence; elements are made when asked for."""

    def __init__(self, index: DatasetIndex) -> None:
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, at: int) -> RowGroup: ...
    @overload
    def __getitem__(self, at: slice) -> list[RowGroup]: ...
    def __getitem__(self, at: int | slice) -> RowGroup | list[RowGroup]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        index = self._index
        return RowGroup(
            path=index.paths[index.shard[at]],
            group=int(index.group[at]),
            rows=int(index.rows[at]),
            bytes=int(index.bytes[at]),
        )


@final
class Dataset:
    """A sharded dataset, opened: made by `open_dataset`.

    Attributes:
        url: where it is, safe to print.
        manifest: its manifest, or None for a bare folder of Parquet or Arrow files.
        schema: the Arrow schema of the columns asked for.
        fingerprint: the name of its content (all columns), the same wherever it lies.
        index: arrays over its row groups, see `DatasetIndex`.
    """

    def __init__(
        self,
        store: Store,
        index: DatasetIndex,
        schema: pa.Schema,
        fingerprint: str,
        manifest: Manifest | None,
        columns: Sequence[str],
    ) -> None:
        self.url = store.url
        self.store = store
        self.index = index
        self.schema = pa.schema([schema.field(name) for name in columns], metadata=schema.metadata)
        self.fingerprint = fingerprint
        self.manifest = manifest
        self.columns = tuple(columns)
        self._shards = Shards(store, index.paths, index.formats, columns)

    @property
    def num_rows(self) -> int:
        """Rows in all shards."""
        return int(self.index.first[-1])

    def __len__(self) -> int:
        return self.num_rows

    def __repr__(self) -> str:
        return f"Dataset({self.url!r}, rows={self.num_rows:,}, row_groups={len(self.index):,}, {self.fingerprint})"

    @property
    def row_groups(self) -> RowGroups:
        """The blocks, in shard order."""
        return RowGroups(self.index)

    def newer(self) -> Dataset | None:
        """The dataset as it is now, of the same columns, if a snapshot has been published since; else None.

        This one stays as it is: what is appended changes nothing that was there. A bare folder has no snapshots.

        Raises:
            StorageError, ManifestError: the manifest cannot be read, or is none.
        """
        if self.manifest is None:
            return None
        manifest = read_snapshot(self.store)
        if (manifest.fingerprint, manifest.snapshot) == (self.manifest.fingerprint, self.manifest.snapshot):
            return None
        index = index_of_manifest(manifest)
        columns = _check_columns(manifest.schema, self.columns)
        return Dataset(self.store, index, manifest.schema, manifest.fingerprint, manifest, columns)

    def fetch(self, block: int) -> Fetched:
        """Bring one row group's stored bytes near; `.decode()` on what is returned gives its rows. Thread-safe."""
        index = self.index
        return self._shards.fetch(int(index.shard[block]), int(index.group[block]), int(index.rows[block]))

    def take(self, rows: Iterable[int]) -> pa.Table:
        """The rows with these numbers (0 ≤ n < `num_rows`, repeats allowed), in the order asked.

        Raises:
            DatasetError: a number is out of range, or no integer.
        """
        wanted = _row_numbers(rows, self.num_rows)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.num_rows):
            bad = int(wanted[(wanted < 0) | (wanted >= self.num_rows)][0])
            raise DatasetError(f"row {bad} was asked for", expected=f"0 to {self.num_rows - 1}")
        if not wanted.size:
            return self.schema.empty_table()
        block = np.searchsorted(self.index.first, wanted, side="right") - 1
        parts, order = [], []
        for b in np.unique(block):
            at = np.flatnonzero(block == b)
            parts.append(self.fetch(int(b)).decode().take(pa.array(wanted[at] - self.index.first[b])))
            order.append(at)
        place = np.empty(len(wanted), np.int64)
        place[np.concatenate(order)] = np.arange(len(wanted))
        return pa.concat_tables(parts).combine_chunks().take(pa.array(place))


def open_dataset(
    url: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    *,
    snapshot: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Dataset:
    """Open a dataset made by datapipe, or any folder (or one file) of Parquet or Arrow IPC files.

    Args:
        url: a local path or any fsspec URL (s3://, gs://, https://, …).
        columns: the columns wanted, in this order; None means all.
        snapshot: which state of a dataset that deliveries are appended to, from 0; None means the newest.
        storage_options: what the store needs (credentials, endpoint); never written anywhere.

    Raises:
        NotFoundError, AccessError: the place cannot be read.
        ManifestError: there is a manifest and it is not valid.
        DatasetError: there is neither a manifest nor a data file, or no such snapshot.
        IntegrityError: a footer is damaged.
        SchemaError: a column asked for does not exist, or files differ in schema.
    """
    store, entries = _locate(os.fspath(url), storage_options)
    if entries is None:
        info = store.info(MANIFEST_NAME)
        if info.size > MAX_MANIFEST_BYTES:
            raise ManifestError(f"{store.url}/{MANIFEST_NAME}: {info.size:,} bytes", expected="less than 1 GiB")
        manifest = read_snapshot(store, snapshot)
        index, schema, fingerprint = index_of_manifest(manifest), manifest.schema, manifest.fingerprint
    else:
        if snapshot is not None:
            raise DatasetError(
                f"{store.url} has no snapshots", expected="a dataset with a manifest", fix="leave it out"
            )
        manifest = None
        index, schema, fingerprint = index_of_folder(store, entries)
    return Dataset(store, index, schema, fingerprint, manifest, _check_columns(schema, columns))


def _row_numbers(rows: Iterable[int], count: int) -> npt.NDArray[np.int64]:
    if isinstance(rows, np.ndarray) and rows.ndim == 1 and rows.dtype.kind in "iu" and rows.dtype != np.uint64:
        return rows.astype(np.int64)
    try:
        return np.fromiter(map(operator.index, rows), np.int64)
    except TypeError as error:
        raise DatasetError(
            f"rows are asked for by integers ({error})",
            expected=f"integers from 0 to {count - 1}",
            fix="round the numbers, or convert them with int()",
        ) from None
    except OverflowError:
        raise DatasetError("a row number of more than 63 bits was asked for", expected=f"0 to {count - 1}") from None


def _locate(url: str, storage_options: Mapping[str, Any] | None) -> tuple[Store, list[Entry] | None]:
    """The store of a dataset, and its data files where it has no manifest."""
    if any(url.lower().split("?", 1)[0].endswith(suffix) for suffix in SUFFIXES):
        root, name = split_url(url)
        store = open_store(root, storage_options=storage_options)
        try:
            return store, [store.info(name)]
        except NotFoundError:
            pass  # a folder that happens to be called x.parquet
    store = open_store(url, storage_options=storage_options)
    if store.exists(MANIFEST_NAME):
        return store, None
    return store, [e for e in store.list() if e.path.lower().endswith(tuple(SUFFIXES)) and not _hidden(e.path)]


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/"))


def _check_columns(schema: pa.Schema, columns: Sequence[str] | None) -> list[str]:
    if columns is None:
        return list(schema.names)
    if isinstance(columns, str):
        raise ConfigError(f"columns={columns!r}", expected="a list of names", fix=f"columns=[{columns!r}]")
    for name in columns:
        if name not in schema.names:
            near = difflib.get_close_matches(name, schema.names, n=1)
            raise SchemaError(
                f"there is no column {name!r}",
                expected=", ".join(schema.names),
                fix=f"did you mean {near[0]!r}?" if near else None,
            )
    if not columns or len(set(columns)) != len(columns):
        raise ConfigError(f"columns={list(columns)!r}", expected="at least one name, each once")
    return list(columns)
