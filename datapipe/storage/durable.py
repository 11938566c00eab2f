"""Writing a local file so that it is there whole or not at all, now and after a crash.

What enters: a target path and its bytes, or a finished file. What leaves: the target, renamed into place.
Invariant: the temporary file lies in the target's own folder (a rename is atomic only within a file system), is synced
before the rename, and is removed if anything fails; the folder is synced after it.
"""

# Paths are text here: Path would normalise the names it is given, and half of these calls go with descriptors.
# ruff: noqa: PTH102, PTH105, PTH108, PTH110, PTH112, PTH118, PTH120, PTH121, PTH123
from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import uuid
from typing import TYPE_CHECKING, Final

from datapipe.storage.os_faults import os_fault
from datapipe.storage.walking import TEMPORARY

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK: Final = 8 << 20
# Some network file systems cannot sync a folder and say so with these.
_NO_FOLDER_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF})


def write_durably(target: str, data: bytes | bytearray | memoryview) -> None:
    """Make `target` hold `data`; folders above it are made too.

    Raises:
        StorageError: it cannot be written (NoSpaceError, AccessError where it is one of those); the old file stays.
    """
    with _temporary(target) as (fd, temporary):
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[os.write(fd, rest[:_BLOCK]) :]
        os.fsync(fd)
        os.replace(temporary, target)


def move_durably(target: str, source: str) -> None:
    """Make `target` hold the bytes of the local file `source`, which is moved where it can be, copied where not.

    A link is copied from, never moved: its target belongs to somebody else. A moved file gets the permissions that a
    new file would have had, since files from `tempfile` are closed to everyone else.

    Raises:
        StorageError: as for `write_durably`, or NotFoundError where `source` is not there.
    """
    with _temporary(target) as (fd, temporary):
        if os.path.exists(target) and os.path.samefile(source, target):
            return
        mine = os.fstat(fd)
        theirs = os.lstat(source)
        if stat.S_ISREG(theirs.st_mode) and theirs.st_dev == mine.st_dev and theirs.st_nlink == 1:
            with open(source, "rb") as file:
                os.fchmod(file.fileno(), stat.S_IMODE(mine.st_mode))
                os.fsync(file.fileno())
            os.replace(source, target)
            return
        with open(source, "rb") as file, open(fd, "wb", closefd=False) as out:
            shutil.copyfileobj(file, out, _BLOCK)
        os.fsync(fd)
        os.replace(temporary, target)


def delete_durably(target: str) -> None:
    """Remove `target`; one that is not there is no error.

    Raises:
        StorageError: it is a folder, or may not be removed.
    """
    try:
        os.unlink(target)
        _sync_folder(os.path.dirname(target))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise os_fault(error, f"deleting {target}") from error


@contextlib.contextmanager
def _temporary(target: str) -> Iterator[tuple[int, str]]:
    """An open, new file beside `target`: removed at the end if it is still there, the folder synced if not."""
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        _make_folder(folder)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            yield fd, temporary
        finally:
            os.close(fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        _sync_folder(folder)
    except OSError as error:
        raise os_fault(error, f"writing {target}") from error


def _make_folder(folder: str) -> None:
    if os.path.isdir(folder):
        return
    above = os.path.dirname(folder)
    if above != folder:
        _make_folder(above)
    with contextlib.suppress(FileExistsError):  # somebody else made it, or a file is in the way: then open fails
        os.mkdir(folder)
        _sync_folder(above)


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(fd)
