"""Files of this machine, as a Store.

What enters: a folder and paths relative to it. What leaves: bytes, and files that are there whole or not at all.
Invariant: a put writes beside its target, syncs and renames (`durable`), so no reader and no crash ever sees a part. A
writer that is killed leaves a file named ".datapipe-tmp-…", which no listing shows and `sweep` removes.

Links: a path that is named is followed, as the operating system does. A listing passes over links that lead out of the
folder (`walking`), unless storage_options={"follow_symlinks": True}; `survey` names what was passed over.
"""

# Paths are text here: Path would normalise the names it is given, and half of these calls go with descriptors.
# ruff: noqa: PTH116, PTH118
from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, BinaryIO, Final, final

from datapipe.errors import ConfigError, IntegrityError, NotFoundError, StorageError
from datapipe.storage.durable import delete_durably, move_durably, write_durably
from datapipe.storage.os_faults import os_fault
from datapipe.storage.paths import checked_path, checked_prefix, local_root
from datapipe.storage.store import Entry, Store
from datapipe.storage.walking import TEMPORARY, Found, walk

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator

    from datapipe.storage.store import Survey

_MOST_AT_ONCE: Final = 1 << 30  # Linux reads at most 0x7ffff000 bytes in one call
_BUFFER: Final = 1 << 18


@final
class LocalStore(Store):
    """A folder of this machine. It need not exist before the first put; an absent one lists nothing.

    Args:
        url: a path or a file:// URL; made absolute, '~' expanded.
        follow_symlinks: list what links lead to, also outside the folder.
    """

    def __init__(self, url: str, *, follow_symlinks: bool = False) -> None:
        self.url = local_root(url)
        self._follow = follow_symlinks

    def __repr__(self) -> str:
        return f"LocalStore({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.url, self._follow)

    def local_path(self, path: str) -> str:
        """The absolute path, whether or not anything is there."""
        return os.path.join(self.url, checked_path(path))

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every file below `prefix`, sorted by path; none where there is no such folder."""
        for item in walk(self.url, checked_prefix(prefix), follow=self._follow):
            if isinstance(item, Found):
                yield _entry(item.path, item.status)
            elif item.fault is not None:
                raise item.fault

    def survey(self, prefix: str = "") -> Survey:
        """What `list` gives, and (path, reason) of what it passes over; an unreadable folder is one of those."""
        entries: builtins.list[Entry] = []
        passed_over: builtins.list[tuple[str, str]] = []
        for item in walk(self.url, checked_prefix(prefix), follow=self._follow):
            if isinstance(item, Found):
                entries.append(_entry(item.path, item.status))
            else:
                passed_over.append((item.path, item.reason))
        return entries, passed_over

    def info(self, path: str) -> Entry:
        """Size and etag (size, modification time in ns, inode) of one file."""
        where = self.local_path(path)
        try:
            status = os.stat(where)
        except OSError as error:
            raise os_fault(error, f"looking for {where}") from error
        if not stat.S_ISREG(status.st_mode):
            raise _not_a_file(where)
        return _entry(path, status)

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes [start, end) of a file."""
        if start < 0 or (end is not None and end < start):
            raise ConfigError(f"byte range [{start}, {end})", expected="0 ≤ start ≤ end")
        where = self.local_path(path)
        fd = _open_file(where)
        try:
            size = os.fstat(fd).st_size
            stop = size if end is None else end
            # Checked before anything is allocated: an end taken from a damaged footer may be any number.
            if max(start, stop) > size:
                raise _short(where, start, stop, size)
            parts: builtins.list[bytes] = []
            at = start
            while at < stop:
                part = os.pread(fd, min(stop - at, _MOST_AT_ONCE), at)
                if not part:  # shortened since
                    raise _short(where, start, stop, at)
                parts.append(part)
                at += len(part)
        except OSError as error:
            raise os_fault(error, f"reading {where}") from error
        finally:
            os.close(fd)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def open(self, path: str) -> BinaryIO:
        """A buffered, seekable reader."""
        return open(_open_file(self.local_path(path)), "rb", buffering=_BUFFER)

    def put(self, path: str, data: bytes | memoryview) -> Entry:
        """Write a file atomically and durably."""
        write_durably(self.local_path(path), data)
        return self.info(path)

    def put_file(self, path: str, source: str) -> Entry:
        """The same from a local file: moved within a file system, copied across."""
        move_durably(self.local_path(path), source)
        return self.info(path)

    def delete(self, path: str) -> None:
        """Remove one file; folders are left, empty or not."""
        delete_durably(self.local_path(path))

    def sweep(self, prefix: str = "") -> int:
        """Remove what killed writers left below `prefix`; returns how many files. Nobody else may be writing there."""
        top = os.path.join(self.url, checked_prefix(prefix))
        left = [
            os.path.join(folder, name)
            for folder, _, names in os.walk(top)
            for name in names
            if name.startswith(TEMPORARY)
        ]
        for where in left:
            delete_durably(where)
        return len(left)


def _rebuild(root: str, follow: bool) -> LocalStore:
    return LocalStore(root, follow_symlinks=follow)


def _open_file(where: str) -> int:
    try:
        # O_NONBLOCK: a named pipe would else wait for its writer; regular files ignore it.
        fd = os.open(where, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise os_fault(error, f"opening {where}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _not_a_file(where)
    return fd


def _not_a_file(where: str) -> StorageError:
    return NotFoundError(f"{where} is not a file", expected="a regular file", fix="name a file, not a folder")


def _short(where: str, start: int, stop: int, had: int) -> StorageError:
    return IntegrityError(
        f"{where}: bytes [{start:,}, {stop:,}) were asked for and it ends at {had:,}",
        expected="a file as long as its index says",
        fix="the file was cut short or replaced: copy it again",
    )


def _entry(path: str, status: os.stat_result) -> Entry:
    etag = f"{status.st_size:x}-{status.st_mtime_ns:x}-{status.st_ino:x}"
    return Entry(path=path, size=status.st_size, etag=etag)
