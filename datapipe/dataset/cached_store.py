"""A store whose files' ends, and where wanted all their bytes, are kept on this machine's disk: `CachedStore`.

What enters: a store, a cache, and the version of each data file: its checksum in the manifest, or its etag when the
dataset was opened. What leaves: the same bytes as from the store. Invariant: what is kept is of that version, and found
by it alone: a file that is replaced is another entry, and a store that cannot tell versions apart is not cached.

The store's address is part of an entry's name: a manifest may say of its files what it likes, but not of another's.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, BinaryIO, final

from datapipe.storage import Entry, Store
from datapipe.storage.cache import CachedBytes
from datapipe.storage.cache_entry import entry_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from datapipe.dataset.manifest import Manifest
    from datapipe.storage.cache import Cache
    from datapipe.storage.store import Parts, Survey

_ETAG = "etag:"


def versions_of_manifest(manifest: Manifest) -> dict[str, str]:
    """Path → version, as the manifest has it."""
    return {s.path: f"{s.checksum.algorithm}:{s.checksum.value}:{s.bytes}" for s in manifest.shards}


def versions_of_entries(entries: Iterable[Entry]) -> dict[str, str]:
    """Path → version, as the store has it; without those it has none for."""
    return {entry.path: f"{_ETAG}{entry.etag}" for entry in entries if entry.etag}


@final
class CachedStore(Store):
    """A store and a cache of what is read from it.

    Args:
        versions: path → version. all_ranges: keep every range that is read, and not only files' ends.
    """

    def __init__(self, store: Store, cache: Cache, versions: dict[str, str], *, all_ranges: bool) -> None:
        self.inner = store
        self.cache = cache
        self.url = store.url
        self.origin = store.origin
        self.is_remote = store.is_remote
        self.all_ranges = all_ranges
        self._versions = versions
        self._tails: dict[str, str] = {}
        self._local = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.inner, self.cache, self._versions, self.all_ranges)

    def __repr__(self) -> str:
        return f"CachedStore({self.inner!r}, {self.cache!r})"

    def with_versions(self, versions: dict[str, str]) -> CachedStore:
        """The same store and cache, of other files."""
        return CachedStore(self.inner, self.cache, versions, all_ranges=self.all_ranges)

    def name(self, kind: str, path: str, *more: object) -> str | None:
        """The name of an entry of one file; None where its version is not known."""
        version = self._versions.get(path)
        return None if version is None else entry_name(kind, 1, self.inner.origin, path, version, *more)

    def agrees(self, entry: Entry) -> bool:
        """Whether this version of a file, which was read, is the one that entries are named by."""
        version = self._versions.get(entry.path, "")
        return not version.startswith(_ETAG) or version == f"{_ETAG}{entry.etag}"

    def forget_tail(self, path: str) -> bool:
        """Drop the kept end of a file that has another etag by now; False if it had been read from the store."""
        name = self._tails.pop(path, None)
        if name is None:
            return False
        self.cache.discard(name)
        return True

    @property
    def last_hit(self) -> bool | None:
        """Whether this thread's last `read_ranges` came from the cache; None: not asked of it. Reading it clears it."""
        hit: bool | None = getattr(self._local, "hit", None)
        self._local.hit = None
        return hit

    # What is cached

    def tail(self, path: str, size: int) -> tuple[Entry, bytes]:
        """What an object is and its last bytes; a local one's are read where they lie."""
        name = self.name("tail", path, size) if self.is_remote else None
        if name is None:
            return self.inner.tail(path, size)
        found = self.cache.lookup(name)
        if isinstance(found, CachedBytes):
            told, data = _tail_of(found)
            self._tails[path] = name
            return Entry(path=path, size=told["size"], etag=told["etag"]), data
        try:
            entry, data = self.inner.tail(path, size)
            if entry.etag and self.agrees(entry):
                whole = json.dumps({"size": entry.size, "etag": entry.etag}).encode() + b"\n" + data
                found.store(len(whole), lambda file: file.write(whole))
        finally:
            found.close()
        return entry, data

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]], pinned: Entry | None = None) -> Parts:
        """The bytes of each range; kept, where all are."""
        wanted = self.all_ranges and pinned is not None and self.agrees(pinned)
        name = self.name("ranges", path, *(n for span in ranges for n in span)) if wanted else None
        if name is None:
            return self.inner.read_ranges(path, ranges, pinned)
        found = self.cache.lookup(name)
        self._local.hit = isinstance(found, CachedBytes)
        if isinstance(found, CachedBytes):
            whole, at = memoryview(found.buffer), 0
            cut: Parts = []
            for start, end in ranges:
                cut.append(whole[at : at + end - start])
                at += end - start
            return cut
        try:
            parts = self.inner.read_ranges(path, ranges, pinned)
            found.store(sum(map(len, parts)), lambda file: [file.write(part) for part in parts])
        finally:
            found.close()
        return parts

    # What is not

    @property
    def gap(self) -> int:
        """The store's."""
        return self.inner.gap

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """As the store has it now."""
        return self.inner.list(prefix)

    def info(self, path: str) -> Entry:
        """As the store has it now."""
        return self.inner.info(path)

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """As the store has it now."""
        return self.inner.read(path, start, end)

    def open(self, path: str) -> BinaryIO:
        """As the store has it now."""
        return self.inner.open(path)

    def put(self, path: str, data: bytes | memoryview) -> Entry:
        """Into the store."""
        return self.inner.put(path, data)

    def put_file(self, path: str, source: str) -> Entry:
        """Into the store."""
        return self.inner.put_file(path, source)

    def delete(self, path: str) -> None:
        """From the store; entries of it are found no more, and go when room is made."""
        self.inner.delete(path)

    def local_path(self, path: str) -> str | None:
        """The store's."""
        return self.inner.local_path(path)

    def survey(self, prefix: str = "") -> Survey:
        """As the store has it now."""
        return self.inner.survey(prefix)

    def sweep(self, prefix: str = "") -> int:
        """In the store."""
        return self.inner.sweep(prefix)

    def exists(self, path: str) -> bool:
        """As the store has it now."""
        return self.inner.exists(path)


def _tail_of(found: CachedBytes) -> tuple[dict[str, Any], bytes]:
    told, _, data = found.buffer.to_pybytes().partition(b"\n")
    return json.loads(told), data


def _rebuild(store: Store, cache: Cache, versions: dict[str, str], all_ranges: bool) -> CachedStore:
    return CachedStore(store, cache, versions, all_ranges=all_ranges)
