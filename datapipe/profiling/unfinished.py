"""`unfinished.txt`: what a run's folder holds while the run lasts, and after one that was killed.

What enters: the folder, before anything of the run begins. What leaves: that it can be written, or an error; and the
file, which `SIGKILL` (or the kernel, short of memory) leaves there, as nothing else can say that a run was killed.
Invariant: a run that ends in any other way leaves no such file.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    import os

NAME: Final = "unfinished.txt"


def begin(folder: str | os.PathLike[str]) -> None:
    """Make the folder and the file in it.

    Raises:
        ConfigError: it cannot be made or written to: better known before hours of training than after.
    """
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / NAME).write_text(
            f"A run that began at {now} is being recorded here, or was killed (SIGKILL, or out of memory) before its"
            " profile could be written; wait for it, or record it again.\n"
        )
    except OSError as error:
        raise ConfigError(
            f"no profile can be written into {folder}: {error.strerror or error}",
            expected="a folder that can be written, or a name for a new one",
            fix="name another with -o; the script was not run",
        ) from error


def end(folder: str | os.PathLike[str]) -> None:
    """Remove the file."""
    with contextlib.suppress(OSError):
        (Path(folder) / NAME).unlink()


def left(folder: str | os.PathLike[str]) -> str | None:
    """What the file says; None where there is none."""
    try:
        return (Path(folder) / NAME).read_text("utf-8", "replace")[:300].strip()
    except OSError:
        return None
