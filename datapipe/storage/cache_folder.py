"""The cache's folder: nobody else's, and every name in it one of ours.

    datapipe-cache        says that this folder is a cache, and of which layout
    room                  how many bytes are taken (see `cache_room`)
    leases/…              who uses what (see `cache_leases`)
    entries/<40 hex>      one entry; <40 hex>.part while it is fetched and written: that file's lock is the right to

What enters: a path, entry names (hexadecimal digits). What leaves: open files. Invariant: the folder belongs to this
user and is closed to all others (0700); that is checked on the open folder, and everything after goes by its
descriptor, so that no link put in its place or inside it leads anywhere. A folder that holds something else is refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from typing import TYPE_CHECKING, Final

from datapipe.errors import ConfigError
from datapipe.storage.cache_locks import lock_now, lock_within, unlock

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRIES: Final = "entries"
PART: Final = ".part"
_MARKER: Final = "datapipe-cache"
_LAYOUT: Final = b"1\n"
_FOLDER: Final = (
    os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
)


def open_folder(path: str) -> int:
    """A descriptor of the cache's folder, which is made where there is none.

    Raises:
        ConfigError: it is somebody else's, a link, no folder, or holds something else. OSError: it cannot be made.
    """
    with contextlib.suppress(FileExistsError):
        os.makedirs(os.path.dirname(path) or "/", exist_ok=True)  # noqa: PTH103, PTH120
        os.mkdir(path, 0o700)  # noqa: PTH102
    try:
        root = os.open(path, _FOLDER)
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
            raise
        raise ConfigError(
            f"the cache's path {path} is a link or a file", expected="a folder", fix="name the folder itself"
        ) from None
    try:
        _check(root, path)
    except BaseException:
        os.close(root)
        raise
    return root


def _check(root: int, path: str) -> None:
    status = os.fstat(root)
    if status.st_uid != os.geteuid():
        raise ConfigError(
            f"the cache's folder {path} belongs to user {status.st_uid}",
            expected=f"a folder of user {os.geteuid()}: what it holds is taken for the dataset's rows",
            fix="name another folder; one that is not there is made",
        )
    names = set(os.listdir(root))
    if _MARKER not in names:
        # Somebody else may be making it at this moment; a moment later the marker is there.
        if names - {ENTRIES, "leases", "room"}:
            raise ConfigError(
                f"the cache's folder {path} holds something else",
                expected="an empty folder, one that is not there, or a cache",
                fix=f"name a folder in it: {path}/cache",
            )
        os.fchmod(root, 0o700)
        for folder in (ENTRIES, "leases"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700, dir_fd=root)
        fd = os.open(_MARKER, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=root)
        try:
            os.write(fd, _LAYOUT)
        finally:
            os.close(fd)
        return
    if status.st_mode & 0o077:
        os.fchmod(root, 0o700)
    fd = os.open(_MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=root)
    try:
        layout = os.read(fd, 16)
    finally:
        os.close(fd)
    if layout not in {_LAYOUT, b""}:  # empty: being made, or made on a full disk
        raise ConfigError(
            f"the cache {path} is of layout {layout.decode('ascii', 'replace').strip()!r}",
            expected=_LAYOUT.decode().strip(),
            fix="name another folder, or remove this one",
        )


def look_at(root: int, name: str) -> os.stat_result | None:
    """An entry's status; None where there is none."""
    try:
        return os.stat(f"{ENTRIES}/{name}", dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return None


def stamp(root: int, name: str, changed_ns: int) -> None:
    """Note that an entry is used now, whatever the mount's habits with access times; when it was changed stays."""
    with contextlib.suppress(OSError):
        os.utime(f"{ENTRIES}/{name}", ns=(time.time_ns(), changed_ns), dir_fd=root, follow_symlinks=False)


def open_entry(root: int, name: str) -> int | None:
    """An entry's file to read from; None where there is none."""
    try:
        return os.open(f"{ENTRIES}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        return None


def claim_part(root: int, name: str) -> int | None:
    """The file that entry `name` is to be written to, locked; None where somebody else has it.

    Raises:
        OSError: it cannot be made.
    """
    fd = open_part(root, name)
    if lock_now(fd):
        return own_part(root, name, fd)
    os.close(fd)
    return None


def open_part(root: int, name: str) -> int:
    """The unlocked part file of an entry."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(f"{ENTRIES}/{name}{PART}", flags, 0o600, dir_fd=root)


def wait_for_part(root: int, name: str, seconds: float) -> int | None:
    """The same as `claim_part` once whoever has it is done with it or dead; None after `seconds`, or if it is done."""
    deadline = time.monotonic() + seconds
    fd = open_part(root, name)
    if not lock_within(fd, max(0.0, deadline - time.monotonic())):
        os.close(fd)
        return None
    return own_part(root, name, fd)


def own_part(root: int, name: str, fd: int) -> int | None:
    """`fd`, whose lock is held, if it is still what lies at its place; else it is freed."""
    try:
        there = os.stat(f"{ENTRIES}/{name}{PART}", dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        pass
    else:
        mine = os.fstat(fd)
        if (there.st_ino, there.st_dev) == (mine.st_ino, mine.st_dev):
            return fd
    unlock(fd)
    return None


def publish_part(root: int, name: str) -> None:
    """Let readers see it, whole."""
    os.rename(f"{ENTRIES}/{name}{PART}", f"{ENTRIES}/{name}", src_dir_fd=root, dst_dir_fd=root)


def drop_part(root: int, name: str, fd: int) -> None:
    """Give the right to write it back, without having."""
    with contextlib.suppress(OSError):
        os.unlink(f"{ENTRIES}/{name}{PART}", dir_fd=root)
    unlock(fd)


def remove_entry(root: int, name: str) -> int | None:
    """Remove an entry: its size, or None if it was not there. What is mapped stays valid until it is let go."""
    path = f"{ENTRIES}/{name}"
    try:
        size = os.stat(path, dir_fd=root, follow_symlinks=False).st_size
        os.unlink(path, dir_fd=root)
    except FileNotFoundError:
        return None
    return size


def files(root: int) -> Iterator[tuple[str, os.stat_result]]:
    """Every file in entries/, with its status."""
    folder = os.open(ENTRIES, _FOLDER, dir_fd=root)
    try:
        with os.scandir(folder) as found:
            for item in found:
                with contextlib.suppress(FileNotFoundError):
                    status = item.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        yield item.name, status
    finally:
        os.close(folder)
