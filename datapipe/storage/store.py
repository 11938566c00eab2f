"""The Store contract: bytes by name and range.

What enters: a path relative to the store's root, '/'-separated. What leaves: bytes, sizes and etags.
Invariant: a read gives exactly the bytes asked for or raises; a put is seen whole or not at all.
"""

from __future__ import annotations

import abc
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from datapipe.errors import IntegrityError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Entry:
    """One object: its path relative to the store's root, its size in bytes, and its etag.

    The etag changes whenever the bytes do (locally: size, modification time in ns and inode; remotely: what the
    service says). It never holds a credential, and is compared, never parsed.
    """

    path: str
    size: int
    etag: str


Survey = tuple[list[Entry], list[tuple[str, str]]]
"""The objects that a listing gives, and (path, reason) of what it passes over."""


Parts = list[bytes | bytearray | memoryview]
"""The bytes of several ranges, in the order they were asked for."""


class Store(abc.ABC):
    """A folder of bytes, local or remote. Implementations are final, picklable, and safe to share by threads.

    Every error is a `StorageError`: NotFoundError, AccessError, IntegrityError or NoSpaceError where it is one.
    Paths that leave the root ('..', absolute, a drive, NUL) are refused with `ConfigError`.
    """

    url: str
    """Where the root is, safe to print: no user name, password, token or signed query."""

    is_remote: bool = False
    """Whether a read waits for somebody else: then several at a time are worth their threads."""

    @functools.cached_property
    def origin(self) -> str:
        """What tells this root from every other, for what is kept of it: more than `url` where that is not enough."""
        return self.url

    @property
    def gap(self) -> int:
        """Bytes between two ranges that are worth reading past rather than asking twice.

        Here: what a disk reads ahead anyway (Linux's default is 128 KiB), and a copy costs less than a system call.
        """
        return 64 << 10

    @abc.abstractmethod
    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every object below `prefix` (a folder, or "" for all), recursively, sorted by path."""

    @abc.abstractmethod
    def info(self, path: str) -> Entry:
        """Size and etag of one object."""

    @abc.abstractmethod
    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes [start, end) of an object (to its end if None). Fewer than asked for is an IntegrityError."""

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]], pinned: Entry | None = None) -> Parts:
        """The bytes of each range [start, end); remotely side by side.

        Args:
            pinned: the version meant. Another one is an IntegrityError, where the service says which it gives.
        """
        if pinned is not None and self.info(path).etag != pinned.etag:
            raise IntegrityError(
                f"{self.url}/{path} was replaced since it was opened",
                expected=f"the file of etag {pinned.etag}",
                fix="open the dataset again, and do not overwrite files that are being read",
            )
        return [self.read(path, start, end) for start, end in ranges]

    def tail(self, path: str, size: int) -> tuple[Entry, bytes]:
        """What an object is, and its last `size` bytes (all of a shorter one): remotely in one request if it can be."""
        entry = self.info(path)
        return entry, self.read(path, max(0, entry.size - size), entry.size)

    @abc.abstractmethod
    def open(self, path: str) -> BinaryIO:
        """A seekable binary reader, for decompression and Parquet; ranged requests underneath."""

    @abc.abstractmethod
    def put(self, path: str, data: bytes | memoryview) -> Entry:
        """Write an object atomically and durably: readers see the old bytes or the new, never a part."""

    def put_if(self, path: str, data: bytes, before: Entry | None) -> bool:
        """Write an object if it is as `info` gave it (`before`; None: not there); whether it was.

        On S3 of several writers one writes. Elsewhere it is looked at and then written: two may.
        """
        try:
            now: Entry | None = self.info(path)
        except NotFoundError:
            now = None
        if (now is None) != (before is None) or (now is not None and before is not None and now.etag != before.etag):
            return False
        self.put(path, data)
        return True

    @abc.abstractmethod
    def put_file(self, path: str, source: str) -> Entry:
        """The same from a local file (moved where the file system allows, so it may be gone afterwards)."""

    @abc.abstractmethod
    def delete(self, path: str) -> None:
        """Remove one object; one that is not there is no error."""

    def local_path(self, path: str) -> str | None:
        """The object's path on this machine's file system, where it has one (for mmap); else None."""
        del path
        return None

    def survey(self, prefix: str = "") -> Survey:
        """What `list` gives, and (path, reason) of what it passes over, for those who must account for everything."""
        return list(self.list(prefix)), []

    def sweep(self, prefix: str = "") -> int:
        """Remove what writers that were killed left below `prefix`; returns how many. Nobody else may be writing."""
        del prefix
        return 0

    def exists(self, path: str) -> bool:
        """Whether the object is there."""
        try:
            self.info(path)
        except NotFoundError:
            return False
        return True
