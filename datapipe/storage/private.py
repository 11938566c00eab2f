"""Folders of this machine that only this user may see into: for rows on their way, and marks that others may not set.

What enters: a path. What leaves: the same, made or found to be this user's own folder, closed to all others (0700).
Invariant: a folder or link that another user put in the way is refused, never followed.
"""

# Paths are text here, as in the stores.
# ruff: noqa: PTH103, PTH120
from __future__ import annotations

import os
import stat

from datapipe.errors import AccessError


def private_folder(path: str) -> str:
    """`path`, made with those above it where it is not there.

    A link that this user made is followed: a scratch folder may lie on another disk.

    Raises:
        AccessError: it is another user's, or no folder.
        OSError: it cannot be made.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    try:
        os.mkdir(path, 0o700)  # noqa: PTH102
    except FileExistsError:
        pass
    else:
        return path
    mine = {os.geteuid()}
    if os.lstat(path).st_uid not in mine:
        raise _others(path)
    # By its descriptor: what is looked at is what is closed.
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(folder)
        if status.st_uid not in mine:
            raise _others(path)
        if stat.S_IMODE(status.st_mode) & 0o077:
            os.fchmod(folder, 0o700)
    finally:
        os.close(folder)
    return path


def _others(path: str) -> AccessError:
    return AccessError(
        f"{path} belongs to another user, who could read and change what is written there",
        expected=f"a folder of user {os.geteuid()}",
        fix="remove it, or name another output",
    )
