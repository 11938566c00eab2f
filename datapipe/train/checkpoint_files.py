"""The file system's side of a checkpoint: temporary folders, syncs, renames, locks, and what an OSError means.

What enters: paths. What leaves: folders that appear whole, and errors from our tree. Invariant: a name is given last,
after everything under it is on the disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import CheckpointError, NoSpaceError, TrainError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK: Final = 4 << 20
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
# Some network file systems cannot sync a folder, or lock a file, and say so with these.
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOLCK, errno.ENOSYS})


@contextlib.contextmanager
def faults(doing: str) -> Iterator[None]:
    """Turn what the file system or safetensors raises into NoSpaceError or CheckpointError."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        # safetensors writes in Rust and leaves the number in its text alone: "… (os error 28)".
        said = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(said[1]) if said else None
        if number in _NO_SPACE:
            raise NoSpaceError(
                f"{doing}: no space left",
                fix="free some space, or keep fewer checkpoints (keep=1); earlier ones are intact",
            ) from error
        reason = os.strerror(number) if number is not None else str(error)
        raise CheckpointError(f"{doing}: {reason}", fix="check the folder's permissions and its disk") from error


@contextlib.contextmanager
def temporary_folder(beside: Path, name: str) -> Iterator[Path]:
    """A new folder in `beside`, removed at the end if it is still there."""
    beside.mkdir(parents=True, exist_ok=True)
    path = beside / f".tmp-{name}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def publish_folder(temporary: Path, target: Path) -> None:
    """Give a finished folder its name, durably; a name that is taken is an OSError."""
    sync_folder(temporary)
    temporary.rename(target)
    sync_folder(target.parent)


def file_record(path: Path) -> dict[str, Any]:
    """Size and xxh3_128 of a file."""
    import xxhash

    digest, size = xxhash.xxh3_128(), 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return {"bytes": size, "xxh3_128": digest.hexdigest()}


def readable_as_usual(path: Path, folder: Path) -> None:
    """Give a file the mode of one made by open(), as `folder`, made by mkdir(), shows it: safetensors gives its own.

    Asking for the process's mask would set it for a moment, for every thread.
    """
    path.chmod(0o666 & folder.stat().st_mode)


def sync_file(path: Path) -> None:
    """Have the disk hold a file's bytes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Have the disk hold a folder's names."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(fd)


@contextlib.contextmanager
def only_run_in(out: Path) -> Iterator[None]:
    """Hold a run's folder for this process; the lock ends with the process, however it ends.

    Raises:
        TrainError: another process trains into it.
    """
    with faults(f"run folder {out}"):
        out.mkdir(parents=True, exist_ok=True)
        file = (out / ".lock").open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainError(
                f"another process trains into {out}",
                expected="one run a folder",
                fix="wait for it, stop it, or choose another folder",
            ) from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        yield
