"""The output as a place that one run at a time may write to, and only if it is empty or ours.

What enters: a store. What leaves: the store, claimed, until the block ends. Invariant: nothing is written before the
folder is known to be empty or to hold a dataset or a run of ours, and two runs on one machine never hold one folder.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from typing import TYPE_CHECKING, Any

from datapipe.errors import AccessError, ConfigError, NoSpaceError, NotFoundError, OutputError, StorageError
from datapipe.preprocess.output_lease import lease
from datapipe.preprocess.work import LEASE, LOCK, MARKER, WORK, WorkFolder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from datapipe.storage import Store


@contextlib.contextmanager
def claim(store: Store) -> Iterator[WorkFolder]:
    """Check the folder, lock it (on this machine's disks), clear what killed tasks left half written.

    On this machine's disks the folder itself is locked, so that no removal of files in it lets a second run in. Remote
    outputs have a lease (`output_lease`); where two runs should come to write at once all the same, they write the same
    bytes.

    Raises:
        OutputError: it is a file, holds something else, or another run holds it. StorageError: its disk is full, or
            fails, also within the block.
    """
    check_ours(store)
    with contextlib.ExitStack() as stack:
        path = store.local_path(LOCK)
        if path is not None:
            stack.enter_context(_locked(path, store.url))
        else:
            stack.enter_context(lease(store))
        stack.enter_context(_disk_errors(store.url))
        if not store.exists(MARKER):
            store.put(MARKER, b'{"format": "datapipe-work"}\n')
        work = WorkFolder(store)
        sweep(work)
        yield work


def sweep(work: WorkFolder) -> None:
    """Remove what killed processes left half written; nobody else writes here: the lock is ours, no task runs."""
    from datapipe.storage.local import LocalStore

    if isinstance(work.store, LocalStore):
        work.store.sweep()
    work.sweep_scratch()


def check_ours(store: Store) -> None:
    """Refuse a place that holds something else.

    Raises:
        OutputError: see `claim`. ConfigError: its name is no text.
    """
    try:
        store.url.encode()
    except UnicodeEncodeError:
        shown = store.url.encode("utf-8", "backslashreplace").decode()
        raise ConfigError(
            f"the output's name is not UTF-8: {shown}",
            expected="a name that every library can open (Arrow's can open no other)",
            fix="name another output, or rename the folder it lies in",
        ) from None
    root = store.local_path("x")
    root = None if root is None else os.path.dirname(root)  # noqa: PTH120
    if root is not None and os.path.lexists(root) and not os.path.isdir(root):  # noqa: PTH112
        raise OutputError(f"{store.url} is a file", expected="a folder", fix="name another output")
    if store.exists(MARKER) or _is_manifest(store):
        return
    found = [entry.path for entry in itertools.islice(store.list(), 4) if entry.path not in (LOCK, LEASE)]
    if root is not None and not found and os.path.isdir(root):  # noqa: PTH112
        # Hidden files and folders count as well: what is there is somebody's.
        found = sorted(name for name in os.listdir(root) if name != WORK)[:3]  # noqa: PTH208
    if found:
        raise OutputError(
            f"{store.url} holds something else: {', '.join(found[:3])}{', …' if len(found) > 3 else ''}",
            expected="an empty folder, or one that an earlier run wrote",
            fix="name another output, or empty it first",
        )


def _is_manifest(store: Store) -> bool:
    try:
        raw = json.loads(store.read("manifest.json"))
    except (NotFoundError, ValueError):
        return False
    return isinstance(raw, dict) and raw.get("format") == "datapipe"


@contextlib.contextmanager
def _locked(path: str, url: str) -> Iterator[None]:
    work = os.path.dirname(path)  # noqa: PTH120
    with contextlib.ExitStack() as stack:  # what is closed loses its lock, as does a killed process
        try:
            os.makedirs(work, exist_ok=True)  # noqa: PTH103
            handles = [os.open(os.path.dirname(work), os.O_RDONLY)]  # noqa: PTH120
            stack.callback(os.close, handles[0])
            handles.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
            stack.callback(os.close, handles[1])
        except OSError as error:
            raise _storage(error, url) from None
        for handle in handles:
            if not _taken(handle):
                holder = os.read(handles[1], 32).decode("ascii", "replace").strip()
                raise OutputError(
                    f"another run holds {url}" + (f" (process {holder})" if holder else ""),
                    expected="one run at a time in an output folder",
                    fix="wait for it, stop it, or name another output",
                )
        with _full_disk(path):
            os.ftruncate(handles[1], 0)
            os.pwrite(handles[1], f"{os.getpid()}\n".encode(), 0)
        yield


def _taken(handle: int) -> bool:
    """Lock an open file or folder; False where somebody else has."""
    import errno
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A network file system may lock files and no folders: then the file alone says who is there.
        return error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
    return True


@contextlib.contextmanager
def _disk_errors(url: str) -> Iterator[None]:
    """What scratch files meet on the disk, which Arrow and NumPy write outside of any Store, as an error of ours.

    Others pass: a caller's `on_progress` may print into a pipe that was closed.
    """
    import errno

    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS):
            raise _storage(error, url) from error
        raise


@contextlib.contextmanager
def _full_disk(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _storage(error, path) from None


def _storage(error: OSError, url: str) -> StorageError:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(f"no space left to write {url}", fix="free some, or write elsewhere")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return AccessError(f"{url}: {os.strerror(error.errno)}", fix="check its owner and permissions")
    return StorageError(f"{url}: {error.strerror or error}")


def refuse_overlap(inputs: Iterable[str], store: Store, files: Iterable[Any] = ()) -> None:
    """Refuse an output inside an input: the next run would read what this one wrote.

    Raises:
        ConfigError: it is.
    """
    from datapipe.corpus.finding import real_path

    root = store.local_path("x")
    if root is None:
        return
    output = os.path.realpath(os.path.dirname(root))  # noqa: PTH120
    places = [path.partition("=")[2] if "=" in path and not os.path.exists(path) else path for path in inputs]  # noqa: PTH110
    folders = [os.path.realpath(path) for path in places if os.path.isdir(path)]  # noqa: PTH112
    own = [file.path for file in files if real_path(f"{file.root}/{file.path}").startswith(output + os.sep)]
    inside = [folder for folder in folders if (output + os.sep).startswith(folder.rstrip(os.sep) + os.sep)]
    if own or inside:
        raise ConfigError(
            f"the output {store.url} lies inside the input" + (f" {inside[0]}" if inside else f" ({own[0]})"),
            expected="an output apart from the input, which the next run reads again",
            fix="name an output outside of it",
        )
