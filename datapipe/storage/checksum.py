"""Checksums: bytes or a file enter, 32 hexadecimal digits of xxh3_128 leave.

Not cryptographic: it finds damage, not forgery. Some 10 GB/s in memory: the disk is the limit.
"""

# Paths are text here: Path would normalise the names it is given, and half of these calls go with descriptors.
# ruff: noqa: PTH123
from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import os

ALGORITHM: Final = "xxh3_128"
_BLOCK: Final = 4 << 20


def checksum_bytes(data: bytes | bytearray | memoryview) -> str:
    """xxh3_128 of `data`, as 32 hexadecimal digits."""
    import xxhash

    return xxhash.xxh3_128_hexdigest(data)


def checksum_file(path: str | os.PathLike[str]) -> str:
    """xxh3_128 of a local file's bytes, read in blocks of 4 MiB.

    Raises:
        StorageError: the file cannot be read (NotFoundError, AccessError where it is one of those).
    """
    import xxhash

    from datapipe.storage.os_faults import os_fault

    digest = xxhash.xxh3_128()
    block = bytearray(_BLOCK)
    try:
        with open(path, "rb", buffering=0) as file:
            while n := file.readinto(block):
                digest.update(memoryview(block)[:n])
    except OSError as error:
        raise os_fault(error, f"checksum of {path}") from error
    return digest.hexdigest()
