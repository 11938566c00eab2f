"""The footers of a dataset's shards: read when first needed, remembered while there is room.

What enters: (store, paths, formats). What leaves: where each row group's bytes lie, and in which version of the file.
Invariants: a footer is read by one thread, in one request where the store can give a file's tail; memory for them is
bounded, whatever the number of shards; everything read later is pinned to the version whose footer this is.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

import pyarrow as pa
import pyarrow.parquet as pq

from datapipe import events
from datapipe.dataset.arrow_footer import Block, footer_blocks
from datapipe.dataset.byte_ranges import ByteRanges
from datapipe.dataset.keyring import is_locked, locked
from datapipe.errors import DatapipeError
from datapipe.locks import new_lock
from datapipe.parquet_chunks import check_chunks

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from datapipe.dataset.keyring import Keyring
    from datapipe.storage import Entry, Store

Held = TypeVar("Held")

LOCAL_TAIL: Final = 64 << 10
"""Parquet's own first read (kDefaultFooterReadSize)."""
REMOTE_TAIL: Final = 256 << 10
"""A footer of 40 columns and 100 row groups; 1 ms more at 200 MB/s, against 20 ms for a second request."""
MOST_BYTES: Final = 32 << 20
"""Of footers as stored, remembered at once; decoded they take some times as much."""


@dataclass(frozen=True, kw_only=True)
class ParquetFooter:
    """A Parquet file's metadata, and the version of the file that it is of.

    Attributes:
        locked: numbers of the leaves that are encrypted, where there is no key: Arrow ends the process that asks for
            their metadata.
    """

    entry: Entry
    meta: pq.FileMetaData
    locked: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class ArrowFooter:
    """An Arrow IPC file's end, its blocks, and the version that they are of.

    Attributes:
        tail: (where it begins, its bytes): the footer, to the end of the file.
        dictionaries, batches: the blocks, in file order.
    """

    entry: Entry
    tail: tuple[int, memoryview]
    schema: pa.Schema
    dictionaries: list[Block]
    batches: list[Block]


def locked_leaves(footer: ByteRanges, meta: pq.FileMetaData) -> frozenset[int]:
    """Which leaves of a file with a plain footer are encrypted, found without a key.

    A reader that has the footer's bytes alone fails at a leaf that is encrypted for want of a key, at others for want
    of their bytes.
    """
    found = set()
    for leaf in range(meta.num_columns if meta.num_row_groups else 0):
        try:
            file = pq.ParquetFile(pa.PythonFile(footer, mode="r"), pre_buffer=False)
            file.reader.read_row_group(0, column_indices=[leaf], use_threads=False)
        except Exception as error:
            if is_locked(error):
                found.add(leaf)
    return frozenset(found)


@final
class Footers:
    """Footers and mapped files of one dataset; safe to share by threads, picklable (without what it remembers)."""

    def __init__(
        self, store: Store, paths: tuple[str, ...], formats: tuple[str, ...], keyring: Keyring | None = None
    ) -> None:
        self.store = store
        self.paths = paths
        self.formats = formats
        self.keyring = keyring
        self._start()

    def _start(self) -> None:
        self._lock = new_lock()
        self._held: OrderedDict[tuple[str, int], tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._reading: dict[tuple[str, int], threading.Lock] = {}

    def __getstate__(self) -> tuple[Any, ...]:
        return self.store, self.paths, self.formats, self.keyring

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.store, self.paths, self.formats, self.keyring = state
        self._start()

    def parquet(self, shard: int) -> ParquetFooter:
        """A Parquet shard's footer."""
        return self._remembered(("parquet", shard), lambda: self._read_parquet(self.paths[shard]))

    def arrow(self, shard: int) -> ArrowFooter:
        """An Arrow IPC shard's footer."""
        return self._remembered(("arrow", shard), lambda: self._read_arrow(self.paths[shard]))

    def mapped(self, shard: int, local: str) -> pa.Buffer:
        """An Arrow IPC shard on this machine's disk, mapped: pages come in as they are touched."""

        def open_() -> tuple[pa.Buffer, int]:
            with pa.memory_map(local) as file:
                return file.read_buffer(), 0

        return self._remembered(("mapped", shard), open_)

    def forget(self, shard: int) -> None:
        """Read a shard's footer anew when it is next needed."""
        with self._lock:
            for key in [key for key in self._held if key[1] == shard]:
                self._bytes -= self._held.pop(key)[1]

    def version(self, shard: int) -> Entry | None:
        """Which version of a shard is read, if its footer is remembered (a mapped file has none)."""
        with self._lock:
            for form in ("parquet", "arrow"):
                if (form, shard) in self._held:
                    entry: Entry = self._held[form, shard][0].entry
                    return entry
        return None

    def _remembered(self, key: tuple[str, int], read: Callable[[], tuple[Held, int]]) -> Held:
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
                return found[0]  # type: ignore[no-any-return]  # what its key's reader gave
            reading = self._reading.setdefault(key, new_lock())
        with reading:
            with self._lock:
                found = self._held.get(key)
            if found is not None:
                return found[0]  # type: ignore[no-any-return]  # as above
            with events.timed("footer"):
                value, size = read()
            with self._lock:
                self._held[key] = value, size
                self._bytes += size
                while self._bytes > MOST_BYTES and len(self._held) > 1:
                    self._bytes -= self._held.popitem(last=False)[1][1]
                self._reading.pop(key, None)
        return value

    def _tail(self, path: str) -> tuple[Entry, bytes]:
        return self.store.tail(path, REMOTE_TAIL if self.store.is_remote else LOCAL_TAIL)

    def _extended(self, path: str, entry: Entry, tail: bytes, need: int) -> memoryview:
        """The file's last `need` bytes, where the tail at hand is shorter."""
        if len(tail) < need <= entry.size:
            return memoryview(self.store.read_ranges(path, [(entry.size - need, entry.size)], entry)[0])
        return memoryview(tail)

    def _read_parquet(self, path: str) -> tuple[ParquetFooter, int]:
        entry, tail = self._tail(path)
        need = int.from_bytes(tail[-8:-4], "little") + 8
        view = self._extended(path, entry, tail, need)
        file = ByteRanges(entry.size, [(entry.size - len(view), view)])
        # Who has the metadata decrypts with it: it carries the keys of its file on to where rows are decoded.
        opened = self.keyring.decryption() if self.keyring is not None else None
        try:
            meta = pq.ParquetFile(pa.PythonFile(file, mode="r"), decryption_properties=opened).metadata
        except Exception as error:
            if not isinstance(error, DatapipeError) and is_locked(error):
                raise locked(path, self.keyring) from None
            raise
        # A footer that is signed, and not encrypted, is of a file some of whose columns are.
        signed = self.keyring is None and meta.serialized_size != need - 8
        locked_ = locked_leaves(file, meta) if signed else frozenset()
        check_chunks(meta, entry.size, [leaf for leaf in range(meta.num_columns) if leaf not in locked_])
        return ParquetFooter(entry=entry, meta=meta, locked=locked_), meta.serialized_size

    def _read_arrow(self, path: str) -> tuple[ArrowFooter, int]:
        entry, tail = self._tail(path)
        if len(tail) < 10:
            raise OSError("it is too short to be an Arrow file")
        (length,) = struct.unpack("<i", tail[-10:-6])
        view = self._extended(path, entry, tail, length + 10)[-(length + 10) :] if length > 0 else memoryview(tail)
        start = entry.size - len(view)
        schema = pa.ipc.open_file(pa.PythonFile(ByteRanges(entry.size, [(start, view)]), mode="r")).schema
        try:
            dictionaries, batches = footer_blocks(bytes(view[:-10]))
        except (struct.error, ValueError) as error:
            raise OSError(f"its footer is damaged ({error})") from None
        footer = ArrowFooter(entry=entry, tail=(start, view), schema=schema, dictionaries=dictionaries, batches=batches)
        return footer, len(view)
