"""One row group, from stored bytes to Arrow, in two halves that can be timed apart: fetch (I/O), then decode (CPU).

What enters: (store, shard, row group, columns). What leaves: an Arrow table whose columns are single chunks.
Invariant: exactly the row group's rows, or an IntegrityError that names shard and row group. Only the wanted
columns' byte ranges are read; ranges closer than `GAP` are read as one.

Damage: Parquet pages that carry a checksum (all that datapipe writes do) are checked as they are decoded. Arrow IPC has
no checksums: a flipped bit in a record batch's body is another value there, and only `datapipe verify` finds it.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol, final

import pyarrow as pa
import pyarrow.parquet as pq

from datapipe.dataset.bounds import Bounds, bounds_of
from datapipe.errors import DatapipeError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from datapipe.storage import Store

GAP: Final = 64 << 10
"""Bytes worth reading past rather than asking twice: at 20 ms a request and 200 MB/s up to 4 MB would pay; kept small,
as wide tables waste what they read past."""


class Fetched(Protocol):
    """A row group whose stored bytes are at hand."""

    nbytes: int
    """Stored bytes read for it."""

    def decode(self) -> pa.Table:
        """The rows, each column one chunk; releases the GIL while Arrow works."""
        ...


@final
class _Ranges(io.RawIOBase):
    """A read-only file of which only some byte ranges are in memory: Parquet's reader asks for no others."""

    def __init__(self, size: int, parts: Sequence[tuple[int, memoryview]]) -> None:
        self._size = size
        self._parts = parts
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0 if whence == io.SEEK_SET else self._at if whence == io.SEEK_CUR else self._size)
        return self._at

    def size(self) -> int:
        """The file's full length (asked for by Arrow)."""
        return self._size

    def read(self, n: int = -1) -> memoryview:  # Arrow takes any buffer, without a copy
        end = self._size if n < 0 else min(self._size, self._at + n)
        for start, data in self._parts:
            if start <= self._at and end <= start + len(data):
                view = data[self._at - start : end - start]
                self._at = end
                return view
        raise OSError(f"bytes [{self._at}, {end}) were not fetched")


def _replaced(path: str, group: int, rows: int) -> IntegrityError:
    return IntegrityError(
        f"{path}: row group {group} is not the one the index lists",
        expected=f"{rows} rows",
        fix="the shard was replaced: open the dataset again, or run `datapipe verify`",
    )


@contextlib.contextmanager
def _naming(path: str, group: int) -> Iterator[None]:
    """Every failure below names the shard and the row group."""
    try:
        yield
    except DatapipeError as error:
        error.add_note(f"shard {path}, row group {group}")
        raise
    except (pa.ArrowException, OSError, IndexError) as error:
        raise IntegrityError(
            f"{path}: row group {group} cannot be read ({error})",
            fix="run `datapipe verify` on the dataset; copy the shard again or make it anew",
        ) from error


@final
class ParquetFetched:
    """Column chunks of one Parquet row group."""

    def __init__(
        self,
        path: str,
        file: _Ranges,
        meta: pq.FileMetaData,
        group: int,
        columns: list[str],
        leaves: list[int],
        nbytes: int,
    ) -> None:
        self._path = path
        self._file = file
        self._meta = meta
        self._group = group
        self._columns = columns
        self._leaves = leaves
        self.nbytes = nbytes

    def decode(self) -> pa.Table:
        """Decompress, check and decode on this thread (the loader runs one row group per thread)."""
        with _naming(self._path, self._group):
            file = pq.ParquetFile(
                pa.PythonFile(self._file, mode="r"), metadata=self._meta, page_checksum_verification=True
            )
            # By number: by name, "a.b" would be the column of that name and the field b of a struct a.
            table = file.reader.read_row_group(self._group, column_indices=self._leaves, use_threads=False)
            return table.select(self._columns).combine_chunks()


@final
class ArrowFetched:
    """One record batch of an Arrow IPC file: mapped where it lies on a local disk, read by ranges elsewhere.

    Its rows are taken as they are stored: the format has no checksums.
    """

    def __init__(self, path: str, source: Any, batch: int, rows: int, columns: list[str]) -> None:
        self._path = path
        self._source = source
        self._batch = batch
        self._rows = rows
        self._columns = columns
        self.nbytes = 0  # mapped pages are read as they are touched, in decode or gather

    def decode(self) -> pa.Table:
        """A table over the mapped bytes (no copy), or decompressed ones."""
        with _naming(self._path, self._batch):
            reader = pa.ipc.open_file(self._source)
            batch = reader.get_batch(self._batch)
            if batch.num_rows != self._rows:
                raise _replaced(self._path, self._batch, self._rows)
            return pa.Table.from_batches([batch]).select(self._columns)


@final
class Shards:
    """Opens the shards of one dataset, and remembers their footers; safe to share by threads, picklable."""

    def __init__(self, store: Store, paths: tuple[str, ...], formats: tuple[str, ...], columns: Sequence[str]) -> None:
        self._store = store
        self._paths = paths
        self._formats = formats
        self._columns = list(columns)
        self._lock = threading.Lock()
        self._open: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in {"_lock", "_open"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _open={})

    def fetch(self, shard: int, group: int, rows: int) -> Fetched:
        """Bring the bytes of one row group near; `rows` is what the index promised."""
        with _naming(self._paths[shard], group):
            if self._formats[shard] == "parquet":
                return self._fetch_parquet(shard, group, rows)
            return self._fetch_arrow(shard, group, rows)

    def bounds(self, shard: int, groups: Sequence[int], rows: Sequence[int]) -> list[dict[str, Bounds]]:
        """What a Parquet shard's footer says of the columns in each of these row groups; nested ones are left out."""
        path = self._paths[shard]
        with _naming(path, groups[0] if groups else 0):
            meta, _, _ = self._parquet_footer(shard)
            places = flat_leaves(meta, self._columns)
            found = []
            for group, count in zip(groups, rows, strict=True):
                if group >= meta.num_row_groups or meta.row_group(group).num_rows != count:
                    raise _replaced(path, group, count)
                row_group = meta.row_group(group)
                found.append({name: bounds_of(row_group.column(leaf)) for name, leaf in places.items()})
            return found

    def _fetch_parquet(self, shard: int, group: int, rows: int) -> ParquetFetched:
        path = self._paths[shard]
        meta, size, wanted = self._parquet_footer(shard)
        if group >= meta.num_row_groups or meta.row_group(group).num_rows != rows:
            raise _replaced(path, group, rows)
        row_group = meta.row_group(group)
        spans = []
        for c in wanted:
            chunk = row_group.column(c)
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            spans.append((min(start, chunk.data_page_offset), chunk.total_compressed_size))
        parts = [
            (start, memoryview(self._store.read(path, start, end)))
            for start, end in coalesce([(s, s + n) for s, n in spans])
        ]
        nbytes = sum(len(data) for _, data in parts)
        return ParquetFetched(path, _Ranges(size, parts), meta, group, self._columns, wanted, nbytes)

    def _parquet_footer(self, shard: int) -> tuple[pq.FileMetaData, int, list[int]]:
        with self._lock:
            held = self._open.get(shard)
        if held is None:
            path = self._paths[shard]
            with self._store.open(path) as file:
                meta = pq.ParquetFile(file).metadata
            held = (meta, self._store.info(path).size, leaves_of(meta, self._columns))
            with self._lock:
                self._open[shard] = held
        return held

    def _fetch_arrow(self, shard: int, group: int, rows: int) -> ArrowFetched:
        path = self._paths[shard]
        local = self._store.local_path(path)
        if local is None:
            # The footer and the batch are read by ranges, through a file of this row group's own.
            file = self._store.open(path)
            return ArrowFetched(path, pa.PythonFile(file, mode="r"), group, rows, self._columns)
        with self._lock:
            held = self._open.get(shard)
            if held is None:
                with pa.memory_map(local) as mapped:
                    held = self._open[shard] = mapped.read_buffer()
        return ArrowFetched(path, pa.BufferReader(held), group, rows, self._columns)


def leaves_of(meta: pq.FileMetaData, columns: Sequence[str]) -> list[int]:
    """The numbers of the stored (leaf) columns that the named top-level columns are made of; a name may hold dots."""
    schema = meta.schema.to_arrow_schema()
    counts = [_leaves(field.type) for field in schema]
    if sum(counts) != meta.num_columns:
        return list(range(meta.num_columns))  # a type stored in an unforeseen way: read all, project afterwards
    names = set(columns)
    top = [field.name for field, n in zip(schema, counts, strict=True) for _ in range(n)]
    return [leaf for leaf, name in enumerate(top) if name in names]


def flat_leaves(meta: pq.FileMetaData, columns: Sequence[str]) -> dict[str, int]:
    """The stored column of each named column that is one value per row."""
    schema = meta.schema.to_arrow_schema()
    counts = [_leaves(field.type) for field in schema]
    if sum(counts) != meta.num_columns:
        return {}
    names = set(columns)
    starts = itertools.accumulate(counts, initial=0)
    return {
        field.name: leaf
        for field, leaf in zip(schema, starts, strict=False)
        if field.name in names and not pa.types.is_nested(field.type)
    }


def _leaves(kind: pa.DataType) -> int:
    if isinstance(kind, pa.BaseExtensionType):
        return _leaves(kind.storage_type)
    if pa.types.is_struct(kind):
        return sum(_leaves(kind.field(i).type) for i in range(kind.num_fields))
    if pa.types.is_map(kind):
        return _leaves(kind.key_type) + _leaves(kind.item_type)
    if isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType | pa.ListViewType | pa.LargeListViewType):
        return _leaves(kind.value_type)
    return 1


def coalesce(spans: Sequence[tuple[int, int]], gap: int = GAP) -> list[tuple[int, int]]:
    """Byte ranges [start, end), sorted, joined where the gap between two is at most `gap`."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start - joined[-1][1] <= gap:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
