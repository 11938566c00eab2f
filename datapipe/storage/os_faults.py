"""An OSError enters, the StorageError that says what it means leaves."""

from __future__ import annotations

import errno
from typing import Final

from datapipe.errors import AccessError, NoSpaceError, NotFoundError, StorageError

NOT_FOUND: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENXIO})
ACCESS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def os_fault(error: OSError, doing: str) -> StorageError:
    """The fault for `error`; `doing` says what was tried, with the path ("reading /data/a.txt")."""
    reason = f"{doing}: {error.strerror or error}"
    if error.errno in NOT_FOUND:
        return NotFoundError(reason, expected="a file", fix="check the path")
    if error.errno in ACCESS:
        return AccessError(reason, fix="check its owner and permissions, and how its disk is mounted")
    if error.errno in NO_SPACE:
        return NoSpaceError(reason, fix="free space or choose another folder; nothing half-written was left behind")
    return StorageError(reason)
