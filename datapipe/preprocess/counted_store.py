"""A store that counts what is asked of it, as an object store would be asked: for the cost of a run before it is run.

What enters: a store. What leaves: its bytes, and counts of requests and bytes. Invariant: what it holds is never mapped
or moved, so that tasks ask for what they would ask a remote store for.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, final

from datapipe.preprocess.tasks import Place
from datapipe.sized_file import SizedFile
from datapipe.storage.store import Entry, Store

if TYPE_CHECKING:
    from collections.abc import Iterator


@final
@dataclass(kw_only=True)
class Counts:
    """What was asked so far: requests, and bytes either way."""

    gets: int = 0
    puts: int = 0
    read: int = 0
    written: int = 0

    def since(self, before: Counts) -> Counts:
        """The difference."""
        return Counts(
            gets=self.gets - before.gets,
            puts=self.puts - before.puts,
            read=self.read - before.read,
            written=self.written - before.written,
        )

    def copy(self) -> Counts:
        """As they are now."""
        return self.since(Counts())


@final
class CountedStore(Store):
    """Counts into `counts`, which may be shared by several; listings are counted as one request."""

    is_remote = True

    def __init__(self, inner: Store, counts: Counts) -> None:
        self._inner = inner
        self._counts = counts
        self.url = inner.url

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """See `Store.list`."""
        self._counts.gets += 1
        return self._inner.list(prefix)

    def info(self, path: str) -> Entry:
        """See `Store.info`."""
        self._counts.gets += 1
        return self._inner.info(path)

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """See `Store.read`."""
        data = self._inner.read(path, start, end)
        self._counts.gets += 1
        self._counts.read += len(data)
        return data

    def open(self, path: str) -> BinaryIO:
        """A reader that asks for what is read of it."""
        return io.BufferedReader(_Counted(self, path, self.info(path).size), 1 << 16)

    def put(self, path: str, data: bytes | memoryview) -> Entry:
        """See `Store.put`."""
        self._counts.puts += 1
        self._counts.written += len(data)
        return self._inner.put(path, data)

    def put_file(self, path: str, source: str) -> Entry:
        """See `Store.put_file`."""
        entry = self._inner.put_file(path, source)
        self._counts.puts += 1
        self._counts.written += entry.size
        return entry

    def delete(self, path: str) -> None:
        """See `Store.delete`."""
        self._counts.puts += 1
        self._inner.delete(path)


@final
class _Counted(SizedFile):
    """A file of the store, read by ranges."""

    def __init__(self, store: Store, path: str, size: int) -> None:
        super().__init__(size)
        self._store, self._path = store, path

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any writable buffer
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        data = self._store.read(self._path, self._at, end)
        buffer[: len(data)] = data
        self._at = end
        return len(data)


@final
@dataclass(frozen=True, kw_only=True)
class CountedPlace(Place):
    """The output, for tasks that run in this process."""

    counts: Counts = field(repr=False)

    def open(self) -> Store:
        """The store."""
        return CountedStore(super().open(), self.counts)
