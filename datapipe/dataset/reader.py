"""Opening a dataset: a folder or URL of shards, with a manifest or without.

What enters: where it is, which columns are wanted, and which rows. What leaves: a `Dataset`: its index, its
fingerprint, and row groups on demand.
Invariant: opening reads the manifest, or the footers, and no row; a `Dataset` never changes once opened. Which rows
pass a filter is found out when the index is first asked for, once, from the filter's columns.
"""

from __future__ import annotations

import copy
import operator
import warnings
from typing import TYPE_CHECKING, Any, final

import numpy as np
import pyarrow as pa
import xxhash

from datapipe import events
from datapipe.dataset.cached import RowGroupEntries, as_cache
from datapipe.dataset.cached_store import CachedStore, versions_of_entries, versions_of_manifest
from datapipe.dataset.fetch import Fetched, Shards
from datapipe.dataset.filters import Filter, Filters, read_filter, text_of
from datapipe.dataset.footers import Footers
from datapipe.dataset.index import SUFFIXES, DatasetIndex, index_of_folder, index_of_manifest
from datapipe.dataset.keyring import Keyring, as_keyring
from datapipe.dataset.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest
from datapipe.dataset.names import checked_columns
from datapipe.dataset.places import nothing_to_open, one_place
from datapipe.dataset.row_groups import RowGroups
from datapipe.dataset.selection import SelectedFetched, Selection, base_numbers, select, selected_index
from datapipe.dataset.snapshots import read_snapshot
from datapipe.dataset.taking import take_rows
from datapipe.dataset.views import Part, blocks_of, part_name, sliced
from datapipe.errors import ConfigError, DatasetError, ManifestError, NotFoundError
from datapipe.locks import new_lock
from datapipe.storage import open_store, split_url

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from datapipe.storage import Entry, Store
    from datapipe.storage.cache import Cache


@final
class Dataset:
    """A sharded dataset, opened: made by `open_dataset`.

    Attributes:
        url: where it is, safe to print.
        manifest: its manifest, or None for a bare folder of Parquet or Arrow files.
        schema: the Arrow schema of the columns asked for.
        fingerprint: the name of its content (all columns), the same wherever it lies; of a filtered one: of the whole
            content and the filter.
        filter: which rows it has; None: all.
        part: which blocks of the dataset it has, where it is a view (`since`, `until`); None: all.
        follows: what a loader does about newer snapshots, as given to `open_dataset`.
        keyring: what its encrypted columns are read with.
    """

    def __init__(
        self,
        store: Store,
        index: DatasetIndex,
        schema: pa.Schema,
        fingerprint: str,
        manifest: Manifest | None,
        columns: Sequence[str],
        filters: Filters = None,
        *,
        footers: Footers | None = None,
        keyring: Keyring | None = None,
    ) -> None:
        self.url = store.url
        self.store = store
        self.schema = pa.schema([schema.field(name) for name in columns], metadata=schema.metadata)
        self.filter: Filter | None = None if filters is None else read_filter(filters, schema, index.paths)
        self.fingerprint = fingerprint if self.filter is None else _filtered_name(fingerprint, self.filter)
        self.manifest = manifest
        self.columns = tuple(columns)
        self._whole_schema = schema
        self._whole = index
        self._filters = filters
        self.part: Part | None = None
        self.follows: bool | Callable[[int], int] = False
        self.keyring = keyring
        footers = footers or Footers(store, index.paths, index.formats, keyring)
        entries = RowGroupEntries(store, footers) if isinstance(store, CachedStore) else None
        self._shards = Shards(footers, columns, entries)
        self._selected: tuple[Selection, DatasetIndex] | None = None
        self._lock = new_lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=new_lock())

    @property
    def index(self) -> DatasetIndex:
        """Arrays over its row groups, see `DatasetIndex`. Filtered: the same blocks, of the rows that pass.

        Raises:
            StorageError, DatasetError: the filter's columns cannot be read, or compared.
        """
        return self._whole if self.filter is None else self._selection()[1]

    def _selection(self) -> tuple[Selection, DatasetIndex]:
        assert self.filter is not None
        with self._lock:
            if self._selected is None:
                shards = self._shards.of(self.filter.columns)
                with events.timed("filter"):
                    selection = select(
                        self.filter, self._whole, shards, self._whole_schema, remote=self.store.is_remote
                    )
                self._selected = selection, selected_index(self._whole, selection)
                if self._whole.first[-1] and not selection.counts.any():
                    warnings.warn(
                        f"{self.url}: no row passes the filter {text_of(self.filter.expression)}", stacklevel=4
                    )
            return self._selected

    def row_numbers(self, blocks: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The numbers, in the whole dataset without the filter, of rows given by block and place in it: int64[n] each.

        What is keyed by them (augmentation, splits) comes out the same for a row whatever the filter.
        """
        before = 0 if self.part is None else self.part.rows_before
        if self.filter is None:
            return self._whole.first[blocks] + rows + before
        return base_numbers(self._whole, self._selection()[0].rows, blocks, rows) + before

    @property
    def num_rows(self) -> int:
        """Rows in all shards; of a filtered dataset: that pass."""
        return int(self.index.first[-1])

    def __len__(self) -> int:
        return self.num_rows

    def __repr__(self) -> str:
        rows = f"rows={int(self._whole.first[-1]):,}, row_groups={len(self._whole):,}"
        if self.filter is not None:  # a representation reads nothing
            passing = f"{self._selected[1].first[-1]:,}" if self._selected else "not yet counted"
            rows = f"rows={passing} of {int(self._whole.first[-1]):,}, filter={text_of(self.filter.expression)}"
        return f"Dataset({self.url!r}, {rows}, {self.fingerprint})"

    @property
    def row_groups(self) -> RowGroups:
        """The blocks, in shard order."""
        return RowGroups(self.index)

    def newer(self) -> Dataset | None:
        """The dataset as it is now, of the same columns and filter, if a snapshot has been published since; else None.

        This one stays as it is: what is appended changes nothing that was there. A bare folder has no snapshots.

        Raises:
            StorageError, ManifestError: the manifest cannot be read, or is none.
        """
        if self.manifest is None or self.part is not None:
            return None
        manifest = read_snapshot(self.store)
        if (manifest.fingerprint, manifest.snapshot) == (self.manifest.fingerprint, self.manifest.snapshot):
            return None
        return self._of(manifest)

    def at(self, snapshot: int) -> Dataset:
        """Another snapshot of the dataset, of the same columns and filter.

        Raises:
            DatasetError: there is no such snapshot, or there are none. StorageError, ManifestError: as `newer`.
        """
        if self.manifest is None:
            raise DatasetError(f"{self.url} has no snapshots", expected="a dataset with a manifest")
        return self._of(read_snapshot(self.store, snapshot))

    def _of(self, manifest: Manifest) -> Dataset:
        columns = checked_columns(manifest.schema, self.columns)
        store = self.store
        if isinstance(store, CachedStore):
            store = store.with_versions(versions_of_manifest(manifest))
        other = Dataset(
            store, index_of_manifest(manifest), manifest.schema, manifest.fingerprint, manifest, columns,
            self._filters, keyring=self.keyring,
        )  # fmt: skip
        other.follows = self.follows
        return other

    def since(self, snapshot: int) -> Dataset:
        """The rows that were added after a snapshot, in their order: with `until`, new and old data to be mixed.

        Its rows keep their numbers (`row_numbers`) and its name is its own. It does not follow.

        Raises:
            DatasetError: there is no such snapshot any more, or it is not what this one was added to.
        """
        return self._view(blocks_of(self, snapshot), None)

    def until(self, snapshot: int) -> Dataset:
        """The rows that a snapshot had: its content and its name, read from the files of this one.

        Raises:
            DatasetError: as `since`.
        """
        return self._view(None, blocks_of(self, snapshot))

    def _view(self, low: int | None, high: int | None) -> Dataset:
        part, index = sliced(self._whole, self.part, low, high)
        other = copy.copy(self)
        other.part, other.follows, other._whole, other._selected = part, False, index, None  # noqa: SLF001  (its own)
        name = part_name(self, part)
        other.fingerprint = name if self.filter is None else _filtered_name(name, self.filter)
        return other

    @property
    def cache(self) -> Cache | None:
        """Where its row groups are kept, if anywhere."""
        return self.store.cache if isinstance(self.store, CachedStore) else None

    @property
    def whole_schema(self) -> pa.Schema:
        """The Arrow schema of all columns that are stored."""
        return self._whole_schema

    def select(self, columns: Sequence[str]) -> Dataset:
        """The same rows of the same row groups, of these of the stored columns; nothing is read anew for it.

        Raises:
            SchemaError: a column does not exist. ConfigError: none, or one twice.
        """
        if self.filter is not None:
            self._selection()  # found once, and shared
        other = copy.copy(self)
        other.columns = tuple(checked_columns(self._whole_schema, columns))
        other.schema = pa.schema([self._whole_schema.field(name) for name in columns], metadata=self.schema.metadata)
        other._shards = self._shards.of(columns)  # noqa: SLF001  (its own class)
        return other

    def fetch(self, block: int) -> Fetched:
        """Bring one row group's stored bytes near; `.decode()` on what is returned gives its rows. Thread-safe."""
        whole = self._whole
        fetched = self._shards.fetch(int(whole.shard[block]), int(whole.group[block]), int(whole.rows[block]))
        return fetched if self.filter is None else SelectedFetched(fetched, self._selection()[0], block)

    def fetch_anew(self, block: int) -> Fetched:
        """The same, once more from the store itself: past every cache, and past what is remembered of the file."""
        whole, store = self._whole, self.store
        fetched = self._shards.fetch_anew(
            store.inner if isinstance(store, CachedStore) else store,
            int(whole.shard[block]), int(whole.group[block]), int(whole.rows[block]),
        )  # fmt: skip
        return fetched if self.filter is None else SelectedFetched(fetched, self._selection()[0], block)

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
            parts.append(take_rows(self.fetch(int(b)).decode(), pa.array(wanted[at] - self.index.first[b])))
            order.append(at)
        place = np.empty(len(wanted), np.int64)
        place[np.concatenate(order)] = np.arange(len(wanted))
        return take_rows(pa.concat_tables(parts).combine_chunks(), pa.array(place))


def open_dataset(
    url: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    *,
    filters: Filters = None,
    snapshot: int | None = None,
    follow: bool | Callable[[int], int] = False,
    storage_options: Mapping[str, Any] | None = None,
    cache: Cache | str | os.PathLike[str] | None = None,
    keys: Any = None,
) -> Dataset:
    """Open a dataset made by datapipe, or any folder (or one file) of Parquet or Arrow IPC files.

    A folder is read with all folders in it, hidden files and those beginning with "_" apart. Folders named
    `column=value` are folders: what they say is no column.

    Args:
        url: a local path or any fsspec URL (s3://, gs://, https://, …).
        columns: the columns wanted, in this order; None means all.
        filters: the rows wanted: `[("lang", "==", "en"), ("score", ">", 0.5)]` (all of the terms), a list of such lists
            (any of them), or a `pyarrow.compute` Expression. Operators: ==, !=, <, <=, >, >=, in, not in. As in SQL a
            null compares with nothing: its row is left out. The columns need not be among those wanted. Row groups
            that statistics rule out (or in) are not read for it. A filtered dataset has a name of its own.
        snapshot: which state of a dataset that deliveries are appended to, from 0; None means the newest.
        follow: let a `DataLoader` take up the newest snapshot at the start of each epoch, see `loader.following`: its
            state names the snapshot. A function: what this process found newest → what all ranks take.
        storage_options: what the store needs (credentials, endpoint); never written anywhere.
        cache: a `datapipe.Cache`, or its folder: what is read is kept there, and read from there the next time.
        keys: of encrypted columns: a callable that gives a master key (bytes) by its name, a pyarrow `KmsClient` or a
            class of one, or where that is: "module:callable", "file.py:callable". Its columns are cached as stored.

    Raises:
        EncryptionError: a footer is encrypted, and the right key is not to be had; of columns, reading one says so.
        NotFoundError, AccessError: there is nothing by that name, or it cannot be read.
        ManifestError: there is a manifest and it is not valid.
        DatasetError: there is neither a manifest nor a data file, or no such snapshot.
        IntegrityError: a footer is damaged.
        SchemaError: a column asked for does not exist, files differ in schema, or the filter compares what cannot be.
        ConfigError: `url`, `columns` or `filters` is wrong.
    """
    kept, keyring = as_cache(cache), as_keyring(keys)
    if follow not in (True, False) and not callable(follow):
        raise ConfigError(f"follow={follow!r}", expected="True, False, or a function of a snapshot's number")
    with events.timed("list"):
        store, entries = _locate(one_place(url), storage_options)
    if entries is None:
        info = store.info(MANIFEST_NAME)
        if info.size > MAX_MANIFEST_BYTES:
            raise ManifestError(f"{store.url}/{MANIFEST_NAME}: {info.size:,} bytes", expected="less than 1 GiB")
        manifest = read_snapshot(store, snapshot)
        index, schema, fingerprint = index_of_manifest(manifest), manifest.schema, manifest.fingerprint
        footers = None
        if kept is not None:
            raw = kept.content == "raw" or keyring is not None or manifest.encryption is not None
            store = CachedStore(store, kept, versions_of_manifest(manifest), all_ranges=raw)
    else:
        if snapshot is not None or follow:
            raise DatasetError(
                f"{store.url} has no snapshots", expected="a dataset with a manifest", fix="leave it out"
            )
        manifest = None
        if kept is not None:
            # What the index is made from is kept too: opening the folder again only lists it.
            store = CachedStore(store, kept, versions_of_entries(entries), all_ranges=store.is_remote)
        index, schema, fingerprint, footers = index_of_folder(store, entries, keyring)
        if isinstance(store, CachedStore):
            store.all_ranges = store.cache.content == "raw" or keyring is not None
    wanted = checked_columns(schema, columns, index.paths)
    opened = Dataset(store, index, schema, fingerprint, manifest, wanted, filters, footers=footers, keyring=keyring)
    opened.follows = follow
    return opened


def _filtered_name(fingerprint: str, filter_: Filter) -> str:
    return f"dp1-{xxhash.xxh3_128_hexdigest(f'filter-1|{fingerprint}|{filter_.canonical}'.encode())}"


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
    found = [e for e in store.list() if e.path.lower().endswith(tuple(SUFFIXES)) and not _hidden(e.path)]
    if not found:
        raise nothing_to_open(url, store)
    return store, found


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/"))
