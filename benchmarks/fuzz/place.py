"""Where a target's input lies while it is read: a folder of this process, in memory where the system has room there.

Invariant: the folder is removed with the process, or by the parent (it lies in the parent's scratch folder).
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path


@functools.cache
def scratch() -> Path:
    """The folder; one for each process."""
    folder = tempfile.mkdtemp(prefix="datapipe-fuzz-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def written(name: str, data: bytes) -> Path:
    """A file of that name with these bytes."""
    path = scratch() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
