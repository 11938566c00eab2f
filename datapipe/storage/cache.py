"""The bounded cache on a local disk: `Cache`.

What enters: the name of an entry (`cache_entry.entry_name`, made from what its content depends on). What leaves: its
payload, mapped, or the right to write it. Invariants: what is given is what was stored, every byte; an entry is written
by one process while the others wait for it; nothing that goes wrong with the disk is ever an error, only a fetch more.

A crash leaves nothing to repair: locks are the kernel's, leases end with their process, and an entry that was half
written is taken over by whoever wants it next, or removed when room is made.
"""

from __future__ import annotations

import errno
import os
import stat
import time
import warnings
from typing import TYPE_CHECKING, Any, Final, Literal, final

from datapipe.errors import ConfigError
from datapipe.locks import new_lock
from datapipe.storage import cache_folder
from datapipe.storage.byte_count import byte_count
from datapipe.storage.cache_entry import HEADER, intact, write_payload
from datapipe.storage.cache_leases import Leases
from datapipe.storage.cache_locks import unlock
from datapipe.storage.cache_maps import Maps, identity_of
from datapipe.storage.cache_room import Room
from datapipe.storage.paths import local_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.storage.cache_entry import EntryWriter

WAIT_SECONDS: Final = 120.0
"""How long a fetch that somebody else is doing is waited for: the retries of a remote read end before."""
_PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EINTR, errno.ENOMEM, errno.ETIMEDOUT})
"""Troubles that are not the disk's: the next entry may be written again."""
_warned: set[str] = set()


@final
class CachedBytes:
    """A payload in the cache, mapped and leased for as long as this, or anything made from `buffer`, lives.

    Attributes:
        buffer: a pyarrow.Buffer. size: its bytes.
    """

    __slots__ = ("buffer", "size")

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer
        self.size = int(buffer.size)


@final
class _Lease:
    """What a mapped payload keeps alive: the mapping, and the lease, which ends with it."""

    __slots__ = ("_lease", "_leases", "_mapped")

    def __init__(self, mapped: Any, leases: Leases, name: str) -> None:
        self._mapped = mapped
        self._leases = leases
        self._lease = leases.take(name)

    def __del__(self) -> None:
        try:  # noqa: SIM105  (at the interpreter's exit other modules' names are gone; the lease ends with the process)
            self._leases.end(self._lease)
        except Exception:  # noqa: S110
            pass


@final
class Claim:
    """The right, and the duty, to bring an entry: `store` it, or `close`. Without a file (no disk) it does nothing."""

    __slots__ = ("_cache", "_fd", "_name")

    def __init__(self, cache: Cache, name: str, fd: int | None) -> None:
        self._cache = cache
        self._name = name
        self._fd = fd

    def store(self, size: int, write: Callable[[EntryWriter], object]) -> None:
        """Write the payload of `size` bytes; the entry is there afterwards, or the cache has said why it is not."""
        fd, self._fd = self._fd, None
        if fd is not None:
            self._cache._store(self._name, fd, size, write)  # noqa: SLF001  (two halves of one thing)

    def close(self) -> None:
        """Give it back: whoever waits fetches for himself."""
        fd, self._fd = self._fd, None
        if fd is not None:
            cache_folder.drop_part(self._cache._root, self._name, fd)  # noqa: SLF001  (the same)

    def __del__(self) -> None:
        self.close()


@final
class Cache:
    """A folder on a local disk that keeps what was fetched, for every process and job of this user.

    Give it to `open_dataset(…, cache=…)`. Entries are named by what their content depends on (the shard's checksum or
    etag, the row group, the columns), so that a shard that was replaced is another entry.

    Args:
        path: the folder, on a disk of this machine. It is made, and closed to other users.
        max_bytes: of all entries together, as a number or as "20 GB". The least recently used that nobody has in use
            goes first. None: half of what is free on that disk, what this cache already holds included.
        content: "decoded" keeps row groups as uncompressed Arrow, mapped back without a copy: as fast as local Arrow
            files, and as large. "raw" keeps the byte ranges as they are stored: smaller, decoded each time. (Arrow
            files on this machine's file systems are mapped where they are, and not kept raw.)
        verify: "once": each process checks an entry's checksum when it first maps it, and again if the file is not the
            same; what it wrote itself counts as checked. "always": each time (adds a third to a gather of tokens).

    One process fetches, others that want the same wait for it, and take over if it dies. A disk that is full or
    read-only means a warning, and no further entries. Deleting the folder is safe at any time.

    Raises:
        ConfigError: an argument is wrong; the folder is another user's, or holds something else.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        max_bytes: int | str | None = None,
        *,
        content: Literal["decoded", "raw"] = "decoded",
        verify: Literal["once", "always"] = "once",
    ) -> None:
        if content not in ("decoded", "raw"):
            raise ConfigError(f"content={content!r}", expected='"decoded" or "raw"')
        if verify not in ("once", "always"):
            raise ConfigError(f"verify={verify!r}", expected='"once" or "always"')
        self.path = local_root(os.fspath(path))
        self.content = content
        self.verify = verify
        self.max_bytes = 0 if max_bytes is None else byte_count("max_bytes", max_bytes)
        self._lock = new_lock()
        self._counts = dict.fromkeys(
            ("hits", "misses", "bytes", "written", "evictions", "damaged", "waits", "refused"), 0
        )
        self._root = -1
        self._writes = False
        self._maps = Maps(0)
        self._leases: Leases
        self._room: Room
        self._open(self.max_bytes or None)

    def _open(self, limit: int | None) -> None:
        if os.name != "posix":
            self._trouble(OSError(errno.ENOTSUP, "this system has no file locks of the kind it needs"))
            return
        try:
            self._root = cache_folder.open_folder(self.path)
            if limit is None:
                disk = os.fstatvfs(self._root)
                free = disk.f_bavail * disk.f_frsize
                self.max_bytes = max(1, (free + Room(self._root, 0).taken()) // 2)
            self._maps = Maps(self.max_bytes)
            self._leases, self._room = Leases(os.dup(self._root)), Room(self._root, self.max_bytes)
            self._writes = True
        except OSError as error:
            self._trouble(error)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.path, self.max_bytes, self.content, self.verify)

    def __repr__(self) -> str:
        return f"Cache({self.path!r}, max_bytes={self.max_bytes}, content={self.content!r})"

    def __del__(self) -> None:
        root, self._root = getattr(self, "_root", -1), -1
        try:
            if root >= 0:
                os.close(root)
        except Exception:  # noqa: S110  (at the interpreter's exit, where `os` is gone: the kernel closes it)
            pass

    def stats(self) -> dict[str, int]:
        """Counts since this object was made, in this process.

        hits, misses: entries asked for. bytes: given from the cache; written: to it. evictions: entries that went to
        make room. damaged: entries that were not as written, and were fetched anew. waits: how often somebody else's
        fetch was waited for. refused: entries for which there was no room (too large, or all else in use).
        """
        with self._lock:
            return dict(self._counts)

    def nbytes(self) -> int:
        """Bytes that all entries take now, by a scan of the folder."""
        return self._room.taken() if self._root >= 0 else 0

    def lookup(self, name: str) -> CachedBytes | Claim:
        """The entry, or the right to bring it. Waits while somebody else does, `WAIT_SECONDS` at most."""
        found = self._find(name)
        if found is not None:
            return found
        fd, deadline = None, 0.0
        while self._writes:
            try:
                fd = cache_folder.claim_part(self._root, name)
                if fd is None:
                    if not deadline:
                        deadline = time.monotonic() + WAIT_SECONDS
                        self._count(waits=1)
                    if time.monotonic() >= deadline:
                        break  # too slow, or stopped: fetched here too, and not kept
                    fd = cache_folder.wait_for_part(self._root, name, deadline - time.monotonic())
            except OSError as error:
                self._trouble(error)
                break
            # It may have been brought since it was looked for, also where the right is ours now.
            found = self._find(name)
            if found is not None:
                if fd is not None:
                    cache_folder.drop_part(self._root, name, fd)
                return found
            if fd is not None:
                break
        self._count(misses=1)
        return Claim(self, name, fd)

    def discard(self, name: str) -> None:
        """Remove an entry that turned out to be of no use."""
        self._maps.drop(name)
        try:
            size = cache_folder.remove_entry(self._root, name)
            if size is not None:
                self._room.free(size)
        except OSError as error:
            self._trouble(error)

    def clear(self) -> int:
        """Remove every entry, whichever dataset's it is; the bytes of them. What is mapped stays until it is let go.

        What a killed process had half written goes as well; what a live one is writing does not.
        """
        if self._root < 0:
            return 0
        names = [name for name, _ in cache_folder.files(self._root) if not name.endswith(cache_folder.PART)]
        before = self.nbytes()
        try:
            self._room.drop_abandoned()
        except OSError as error:
            self._trouble(error)
        for name in names:
            self.discard(name)
        return before - self.nbytes()

    # Reading

    def _find(self, name: str) -> CachedBytes | None:
        if self._root < 0:
            return None
        status, mapped = None, None
        try:
            status = cache_folder.look_at(self._root, name)
            if status is not None and self.verify == "once":
                mapped = self._maps.get(name, identity_of(status))
            if status is not None and mapped is None:
                status, mapped = self._mapped(name)
            if status is None:  # never there, or evicted a moment ago
                self._maps.drop(name)
                return None
        except OSError as error:
            if error.errno in _PASSING:
                return None
        if status is None or mapped is None:
            self._count(damaged=1)
            self.discard(name)
            return None
        self._maps.put(name, identity_of(status), mapped)
        if self._writes:
            cache_folder.stamp(self._root, name, status.st_mtime_ns)
        found = CachedBytes(_payload(mapped, _Lease(mapped, self._leases, name)))
        self._count(hits=1, bytes=found.size)
        return found

    def _mapped(self, name: str) -> tuple[os.stat_result | None, Any]:
        """An entry's status and the whole file, mapped: None, None if it is not there; no map of what is damaged."""
        import pyarrow as pa

        fd = cache_folder.open_entry(self._root, name)
        if fd is None:
            return None, None
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size < HEADER:
                return status, None
            seen = self.verify == "once" and self._maps.checked(name, identity_of(status))
            if not seen and not intact(fd, name, status.st_size):
                return status, None
            # By its descriptor: a path would be looked up again. Closed, the map stays, and takes no descriptor.
            with pa.memory_map(f"/dev/fd/{fd}") as file:
                return status, file.read_buffer()
        finally:
            os.close(fd)

    # Writing

    def _store(self, name: str, fd: int, size: int, write: Callable[[EntryWriter], object]) -> None:
        reserved = published = False
        whole = HEADER + size
        try:
            reserved, evicted = self._room.reserve(fd, whole) if self._writes else (False, 0)
            self._count(evictions=evicted, refused=int(self._writes and not reserved))
            if evicted:
                for held in self._maps.names():
                    if cache_folder.look_at(self._root, held) is None:
                        self._maps.drop(held)
            if reserved:
                write_payload(fd, name, size, write)
                status = os.fstat(fd)
                cache_folder.stamp(self._root, name + cache_folder.PART, status.st_mtime_ns)
                cache_folder.publish_part(self._root, name)
                published = True
                self._maps.note(name, identity_of(status))
                self._count(written=size)
        except OSError as error:
            self._trouble(error)
        finally:
            if published:
                unlock(fd)
            else:
                cache_folder.drop_part(self._root, name, fd)
                if reserved:
                    self._room.free(whole)

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, count in more.items():
                self._counts[name] += count

    def _trouble(self, error: Exception) -> None:
        """The disk refuses: said once in a process, and no more is written."""
        if isinstance(error, OSError) and (error.errno in _PASSING or isinstance(error, TimeoutError)):
            return
        with self._lock:
            self._writes = False
            told = self.path in _warned
            _warned.add(self.path)
        if not told:
            reason = getattr(error, "strerror", None) or str(error)
            warnings.warn(
                f"the cache {self.path} cannot be written ({reason}): no more is kept there. Batches are the same"
                " without it, and come from the dataset itself.",
                RuntimeWarning,
                stacklevel=2,
            )


def _payload(mapped: Any, lease: _Lease) -> Any:
    import pyarrow as pa

    return pa.foreign_buffer(mapped.address + HEADER, mapped.size - HEADER, base=lease)


def _rebuild(path: str, max_bytes: int, content: Any, verify: Any) -> Cache:
    return Cache(path, max_bytes, content=content, verify=verify)
