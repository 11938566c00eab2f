"""One row group, from stored bytes to Arrow, in two halves that can be timed apart: fetch (I/O), then decode (CPU).

What enters: (store, shard, row group, columns). What leaves: an Arrow table whose columns are single chunks.
Invariant: exactly the row group's rows, or an IntegrityError that names shard and row group. Only the wanted
columns' byte ranges are read, of the version of the file whose footer told where they are; ranges closer than the
store's `gap` are read as one, and a remote store reads them side by side.

Local Arrow files are mapped. Local Parquet is read: a file cut short under a map kills the process where a read is an
error. The copy costs 14% of decoding zstd text, and as much as decoding where nothing is compressed (measured, warm).

Damage: Parquet pages that carry a checksum (all that datapipe writes do) are checked as they are decoded. Arrow IPC has
no checksums: a flipped bit in a record batch's body is another value there, and only `datapipe verify` finds it.
"""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING, Any, Final, Protocol, final

import pyarrow as pa
import pyarrow.parquet as pq

from datapipe.dataset.arrow_footer import batch_buffers
from datapipe.dataset.arrow_memory import decoded, parquet_reader, shared_pool
from datapipe.dataset.bounds import Bounds, bounds_of
from datapipe.dataset.byte_ranges import ByteRanges, coalesce
from datapipe.dataset.decompression import Decompression
from datapipe.dataset.footers import Footers
from datapipe.dataset.keyring import is_locked, locked
from datapipe.dataset.leaves import buffers_of, flat_leaves, leaves_of
from datapipe.dataset.soundness import check_decoded, check_stored
from datapipe.errors import DatapipeError, IntegrityError
from datapipe.events import REMOTE, active
from datapipe.parquet_chunks import physical_types

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from datapipe.dataset.cached import RowGroupEntries
    from datapipe.dataset.footers import ArrowFooter
    from datapipe.dataset.keyring import Keyring
    from datapipe.storage import Entry, Store

    Parts = list[tuple[int, memoryview]]

_ALIGNED: Final = 64
"""Buffers are padded to 8 or 64 bytes, and Arrow may read the padding with them."""


class Fetched(Protocol):
    """A row group whose stored bytes are at hand."""

    nbytes: int
    """Stored bytes read for it."""
    flag: int
    """Where they came from: a cache or not (`events.HIT`, `events.MISS`; neither without one), `events.REMOTE`."""

    def decode(self) -> pa.Table:
        """The rows, each column one chunk; releases the GIL while Arrow works."""
        ...


def _replaced(path: str, group: int, rows: int) -> IntegrityError:
    return IntegrityError(
        f"{path}: row group {group} is not the one the index lists",
        expected=f"{rows} rows",
        fix="the shard was replaced: open the dataset again, or run `datapipe verify`",
    )


@contextlib.contextmanager
def _naming(path: str, group: int, keyring: Keyring | None = None) -> Iterator[None]:
    """Every failure below names the shard and the row group."""
    try:
        yield
    except DatapipeError as error:
        error.add_note(f"shard {path}, row group {group}")
        raise
    except (pa.ArrowException, OSError, IndexError, ValueError, struct.error) as error:
        if is_locked(error):
            raise locked(f"{path}: row group {group}", keyring) from None
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
        file: ByteRanges,
        meta: pq.FileMetaData,
        group: int,
        columns: list[str],
        leaves: list[int],
        nbytes: int,
        decompression: Decompression,
        keyring: Keyring | None,
    ) -> None:
        self._path = path
        self._file = file
        self._meta = meta
        self._group = group
        self._columns = columns
        self._leaves = leaves
        self._decompression = decompression
        self._keyring = keyring
        self.nbytes = nbytes
        self.flag = 0

    def decode(self) -> pa.Table:
        """Decompress, check and decode on this thread (the loader runs one row group per thread)."""
        recorder, watched = active(), None
        if recorder is not None and self._keyring is None:  # pages that are encrypted cannot be taken apart
            watched = self._decompression.begin(recorder, self._meta, self._group, self._leaves, self._file)
        with _naming(self._path, self._group, self._keyring):
            # The bytes are at hand: buffered ahead, Arrow would ask for them on threads of its own, at no gain (text
            # takes half as long again), and such a thread that comes back to an interpreter that exits aborts it.
            reader = parquet_reader(
                self._file.opened(), metadata=self._meta, page_checksum_verification=True, pre_buffer=False,
            )  # fmt: skip
            # By number: by name, "a.b" would be the column of that name and the field b of a struct a.
            table = reader.read_row_group(self._group, column_indices=self._leaves, use_threads=False)
            if table.num_rows != self._meta.row_group(self._group).num_rows:
                raise ValueError(f"its pages hold {table.num_rows} rows")
            check_decoded(table)
            # As a rule there is nothing to do, and each call lets go of the interpreter's lock, and waits for it then.
            if table.column_names != self._columns:
                table = table.select(self._columns)
            if any(column.num_chunks != 1 for column in table.itercolumns()):
                table = table.combine_chunks()
        decoded(table.nbytes)
        if watched is not None:
            watched.end()
        return table


@final
class ArrowFetched:
    """One record batch of an Arrow IPC file: mapped where it lies on a local disk, read by ranges elsewhere.

    The format has no checksums: offsets and indices, which would lead a reader out of its memory, are looked at.
    """

    def __init__(
        self,
        path: str,
        source: Any,
        batch: int,
        rows: int,
        columns: list[str],
        *,
        fields: list[int] | None,
        nbytes: int,
    ) -> None:
        self._path = path
        self._source = source
        self._batch = batch
        self._rows = rows
        self._columns = columns
        self._fields = fields
        self.nbytes = nbytes  # 0 where mapped: pages are read as they are touched, in decode or gather
        self.flag = 0

    def decode(self) -> pa.Table:
        """A table over the mapped bytes (no copy), or decompressed ones."""
        with _naming(self._path, self._batch):
            # Of the bytes of columns that are not wanted nothing is read, nor decompressed. Where all are, Arrow is not
            # told so: with `included_fields` it copies buffers that are mapped (0.5 ms per 8 MB, without it 0.01).
            options = pa.ipc.IpcReadOptions(included_fields=self._fields, use_threads=False)
            batch = pa.ipc.open_file(self._source, options=options).get_batch(self._batch)
            if batch.num_rows != self._rows:
                raise _replaced(self._path, self._batch, self._rows)
            table = pa.Table.from_batches([batch]).select(self._columns)
            check_stored(table)
            return table


@final
class Shards:
    """Reads row groups of some columns; safe to share by threads, picklable."""

    def __init__(self, footers: Footers, columns: Sequence[str], entries: RowGroupEntries | None = None) -> None:
        self._footers = footers
        self._columns = list(columns)
        self._entries = entries
        self._decompression = Decompression()
        shared_pool()  # as a rule on the main thread, before there are others

    def of(self, columns: Sequence[str]) -> Shards:
        """The same shards, other columns: footers are read once for both."""
        return Shards(self._footers, columns, self._entries)

    def fetch(self, shard: int, group: int, rows: int) -> Fetched:
        """Bring the bytes of one row group near; `rows` is what the index promised."""
        if self._entries is not None:
            return self._entries.fetch(self._stored, shard, group, rows, self._columns)
        return self._stored(shard, group, rows)

    def _stored(self, shard: int, group: int, rows: int) -> Fetched:
        with _naming(self._footers.paths[shard], group, self._footers.keyring):
            parquet = self._footers.formats[shard] == "parquet"
            fetched = (self._fetch_parquet if parquet else self._fetch_arrow)(shard, group, rows)
            fetched.flag = REMOTE if self._footers.store.is_remote else 0
            return fetched

    def anew(self, store: Store) -> Shards:
        """The same from `store`, with nothing remembered of the files."""
        return Shards(Footers(store, self._footers.paths, self._footers.formats, self._footers.keyring), self._columns)

    def fetch_anew(self, store: Store, shard: int, group: int, rows: int) -> Fetched:
        """A row group from `store`, its footer read once more.

        Raises:
            IntegrityError: the shard is another file by now.
        """
        other = self.anew(store)
        fetched = other.fetch(shard, group, rows)
        before, now = self._footers.version(shard), other._footers.version(shard)  # noqa: SLF001  (its own class)
        if before is not None and before != now:
            raise _replaced(self._footers.paths[shard], group, rows)
        return fetched

    def bounds(self, shard: int, groups: Sequence[int], rows: Sequence[int]) -> list[dict[str, Bounds]]:
        """What a Parquet shard's footer says of the columns in each of these row groups; nested ones are left out."""
        path = self._footers.paths[shard]
        with _naming(path, groups[0] if groups else 0, self._footers.keyring):
            footer = self._footers.parquet(shard)
            meta = footer.meta
            places = {n: leaf for n, leaf in flat_leaves(meta, self._columns).items() if leaf not in footer.locked}
            found, kinds = [], physical_types(meta)
            for group, count in zip(groups, rows, strict=True):
                if group >= meta.num_row_groups or meta.row_group(group).num_rows != count:
                    raise _replaced(path, group, count)
                row_group = meta.row_group(group)
                found.append({name: bounds_of(row_group.column(leaf), kinds[leaf]) for name, leaf in places.items()})
            return found

    def _fetch_parquet(self, shard: int, group: int, rows: int) -> ParquetFetched:
        path = self._footers.paths[shard]
        footer = self._footers.parquet(shard)
        meta, wanted = footer.meta, leaves_of(footer.meta, self._columns)
        if group >= meta.num_row_groups or meta.row_group(group).num_rows != rows:
            raise _replaced(path, group, rows)
        if closed := footer.locked.intersection(wanted):
            names = sorted({meta.schema.column(leaf).path.split(".")[0] for leaf in closed})
            raise locked(f"{path}: {', '.join(names)}", None, several=len(names) > 1)
        row_group = meta.row_group(group)
        spans = []
        for c in wanted:
            chunk = row_group.column(c)
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            start = min(start, chunk.data_page_offset)
            spans.append((start, start + chunk.total_compressed_size))
        parts, nbytes = self._read(path, spans, footer.entry)
        file = ByteRanges(footer.entry.size, parts)
        keyring = self._footers.keyring
        return ParquetFetched(path, file, meta, group, self._columns, wanted, nbytes, self._decompression, keyring)

    def _read(self, path: str, spans: list[tuple[int, int]], pinned: Entry) -> tuple[Parts, int]:
        store = self._footers.store
        ranges = coalesce(spans, store.gap)
        data = [memoryview(part) for part in store.read_ranges(path, ranges, pinned)]
        return [(start, part) for (start, _), part in zip(ranges, data, strict=True)], sum(map(len, data))

    def _fetch_arrow(self, shard: int, group: int, rows: int) -> ArrowFetched:
        path = self._footers.paths[shard]
        local = self._footers.store.local_path(path)
        if local is not None:
            held = self._footers.mapped(shard, local)
            fields = _fields(pa.ipc.open_file(pa.BufferReader(held)).schema, self._columns)
            return ArrowFetched(path, pa.BufferReader(held), group, rows, self._columns, fields=fields, nbytes=0)
        footer = self._footers.arrow(shard)
        if group >= len(footer.batches):
            raise _replaced(path, group, rows)
        spans = [(offset, offset + header + body) for offset, header, body in footer.dictionaries]
        spans += self._batch_spans(path, footer, group)
        parts, nbytes = self._read(path, spans, footer.entry)
        source = pa.PythonFile(ByteRanges(footer.entry.size, [*parts, footer.tail]), mode="r")
        fields = _fields(footer.schema, self._columns)
        return ArrowFetched(path, source, group, rows, self._columns, fields=fields, nbytes=nbytes)

    def _batch_spans(self, path: str, footer: ArrowFooter, group: int) -> list[tuple[int, int]]:
        """The bytes of a record batch that the wanted columns are in: all, or its header and their buffers."""
        offset, header, body = footer.batches[group]
        start, end = offset + header, offset + header + body
        store = self._footers.store
        wanted = buffers_of(footer.schema, self._columns)
        if set(self._columns) == set(footer.schema.names) or wanted is None or body <= store.gap:
            return [(offset, end)]
        # Where the buffers are is said by the header alone: a request more, for the columns that it spares.
        buffers = batch_buffers(bytes(store.read_ranges(path, [(offset, start)], footer.entry)[0]))
        spans = [(offset, start)]
        for number in wanted:
            at, length = buffers[number]
            spans.append((start + at, min(end, start + at + length + _ALIGNED)))
        return spans


def _fields(schema: pa.Schema, columns: Sequence[str]) -> list[int] | None:
    """The places of these columns; None: all there are."""
    names = set(columns)
    found = [number for number, name in enumerate(schema.names) if name in names]
    return found if len(found) < len(schema.names) else None
