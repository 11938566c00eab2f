"""Files on this machine as a Store.

What enters: a folder. What leaves: its bytes by name and range. Invariant: a put is on the disk, whole and under its final name, or
nowhere: it is written beside, synced, renamed, and the folder synced. Symbolic links are listed only where they lead to a file
inside the root, so that a hostile link cannot reach out of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, BinaryIO, Final, final

from datapipe.errors import AccessError, IntegrityError, NoSpaceError, NotFoundError, StorageError
from datapipe.storage.paths import check_path
from datapipe.storage.store import Entry, Store

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPORARY: Final = ".datapipe-tmp-"
"""Names that begin so are files being written; no listing shows them."""
_NO_SPACE: Final = {errno.ENOSPC, errno.EDQUOT}
_MISSING: Final = {errno.ENOENT, errno.ENOTDIR}
_DENIED: Final = {errno.EACCES, errno.EPERM, errno.EROFS}


@final
class LocalStore(Store):
    """A folder of this machine; it need not exist before the first put."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(os.path.expanduser(root))  # noqa: PTH100, PTH111  (plain strings, hot path)
        self.url = self.root

    def __repr__(self) -> str:
        return f"LocalStore({self.root!r})"

    def local_path(self, path: str) -> str:
        """The file's path; whether it exists or not."""
        return os.path.join(self.root, *check_path(path).split("/"))  # noqa: PTH118

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """See `Store.list`; symbolic links to folders are not followed, temporary files not shown."""
        top = self.local_path(prefix.rstrip("/")) if prefix.strip("/") else self.root
        yield from sorted(self._walk(top), key=lambda entry: entry.path)

    def _walk(self, top: str) -> Iterator[Entry]:
        inside = os.path.realpath(self.root) + os.sep
        for folder, _, names in os.walk(top, followlinks=False, onerror=self._raise):
            for name in names:
                full = os.path.join(folder, name)  # noqa: PTH118
                if name.startswith(TEMPORARY):
                    continue
                if os.path.islink(full) and not os.path.realpath(full).startswith(inside):  # noqa: PTH114
                    continue
                with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                    if os.path.isfile(full):  # noqa: PTH113
                        yield self._entry(os.path.relpath(full, self.root).replace(os.sep, "/"), os.stat(full))  # noqa: PTH116

    def _raise(self, error: OSError) -> None:
        if error.errno not in _MISSING:
            raise _ours(error, str(error.filename)) from None

    @staticmethod
    def _entry(path: str, info: os.stat_result) -> Entry:
        return Entry(path, info.st_size, f"{info.st_size:x}-{info.st_mtime_ns:x}-{info.st_ino:x}")

    def info(self, path: str) -> Entry:
        """See `Store.info`."""
        full = self.local_path(path)
        try:
            info = os.stat(full)  # noqa: PTH116
        except OSError as error:
            raise _ours(error, full) from None
        if os.path.isdir(full):  # noqa: PTH112
            raise NotFoundError(f"{full} is a folder", expected="a file")
        return self._entry(path, info)

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """See `Store.read`."""
        full = self.local_path(path)
        try:
            with open(full, "rb", buffering=0) as file:  # noqa: PTH123
                if end is None:
                    end = os.fstat(file.fileno()).st_size
                data = b""
                while len(data) < end - start:
                    part = os.pread(file.fileno(), end - start - len(data), start + len(data))
                    if not part:
                        raise IntegrityError(
                            f"{full}: {len(data):,} bytes at {start:,}",
                            expected=f"{end - start:,} bytes",
                            fix="the file is cut short: copy it again, or run `datapipe verify`",
                        )
                    data = data + part if data else part
                return data
        except OSError as error:
            raise _ours(error, full) from None

    def open(self, path: str) -> BinaryIO:
        """See `Store.open`."""
        full = self.local_path(path)
        try:
            return open(full, "rb")  # noqa: PTH123, SIM115  (the caller closes it)
        except OSError as error:
            raise _ours(error, full) from None

    def put(self, path: str, data: bytes | memoryview) -> Entry:
        """See `Store.put`."""
        with self._beside(path) as (temporary, handle):
            view = memoryview(data).cast("B")
            while len(view):
                view = view[os.write(handle, view) :]
            del temporary
        return self.info(path)

    def put_file(self, path: str, source: str) -> Entry:
        """See `Store.put_file`: renamed where both are on one file system, else copied."""
        full = self.local_path(path)
        try:
            os.makedirs(os.path.dirname(full), exist_ok=True)  # noqa: PTH103, PTH120
            if os.stat(source).st_dev == os.stat(os.path.dirname(full)).st_dev:  # noqa: PTH116, PTH120
                with open(source, "rb") as file:  # noqa: PTH123
                    os.fsync(file.fileno())
                os.replace(source, full)  # noqa: PTH105
                _sync_folder(os.path.dirname(full))  # noqa: PTH120
                return self.info(path)
        except OSError as error:
            raise _ours(error, full) from None
        with self._beside(path) as (temporary, _):
            shutil.copyfile(source, temporary)
        return self.info(path)

    @contextlib.contextmanager
    def _beside(self, path: str) -> Iterator[tuple[str, int]]:
        """A new file beside `path`, synced and renamed to it at the end, or removed."""
        full = self.local_path(path)
        folder = os.path.dirname(full)  # noqa: PTH120
        temporary = None
        try:
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103
            handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=folder)
            try:
                yield temporary, handle
                os.fsync(handle)
            finally:
                os.close(handle)
            os.chmod(temporary, 0o666 & ~_umask())  # noqa: PTH101
            os.replace(temporary, full)  # noqa: PTH105
            temporary = None
            _sync_folder(folder)
        except OSError as error:
            raise _ours(error, full) from None
        finally:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)  # noqa: PTH108

    def delete(self, path: str) -> None:
        """See `Store.delete`."""
        full = self.local_path(path)
        try:
            os.unlink(full)  # noqa: PTH108
        except FileNotFoundError:
            return
        except OSError as error:
            raise _ours(error, full) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: str) -> None:
    """Make a rename durable; file systems that cannot sync a folder have nothing to sync."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def _ours(error: OSError, full: str) -> Exception:
    if isinstance(error, StorageError):
        return error
    if error.errno in _NO_SPACE:
        return NoSpaceError(f"no space left to write {full}", fix="free some, or write elsewhere; what was there is intact")
    if error.errno in _MISSING:
        return NotFoundError(f"{full} is not there", fix="check the path")
    if error.errno in _DENIED:
        return AccessError(f"{full}: {os.strerror(error.errno)}", fix="check its owner and permissions")
    return StorageError(f"{full}: {error.strerror or error}")
