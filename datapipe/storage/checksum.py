"""Checksums: xxh3, 128 bits, as 32 hex digits; fast enough (GB/s) to be always on, and no defence against forgery."""

from __future__ import annotations

import xxhash


def checksum_bytes(data: bytes | memoryview) -> str:
    """The checksum of these bytes."""
    return xxhash.xxh3_128_hexdigest(data)


def checksum_file(path: str) -> str:
    """The checksum of a local file, read in pieces of 4 MiB."""
    digest = xxhash.xxh3_128()
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        while data := file.read(4 << 20):
            digest.update(data)
    return digest.hexdigest()
