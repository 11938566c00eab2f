"""One entry of the cache as bytes: a header of 64, then the payload.

What enters: a name and a payload that is written in pieces. What leaves: a file whose every byte is accounted for.
Invariant: the header says how long the payload is, what its xxh3_128 is, and of which entry it is; an entry that is
cut short, lengthened, changed in any byte or stored under another's name is told from a whole one.

The payload begins at 64, so that in a mapped file it is aligned as Arrow likes it.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable

HEADER: Final = 64
NAME_BYTES: Final = 20
_MAGIC: Final = b"dpcache1"
_LAYOUT: Final = struct.Struct(f"<8sQ16s{NAME_BYTES}s12x")
assert _LAYOUT.size == HEADER
_AT_ONCE: Final = 256 << 10
"""Read and then hashed within a core's own cache."""
BLOCK: Final = 4096
"""File systems give space in blocks of this size, most of them."""


def entry_name(*parts: object) -> str:
    """40 hexadecimal digits for what an entry is of: BLAKE2b over the parts, each with its length.

    Nothing of a path, an etag or a column's name gets into a file's name, whatever they hold.
    """
    digest = hashlib.blake2b(digest_size=NAME_BYTES)
    for part in parts:
        text = str(part).encode("utf-8", "surrogatepass")
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()


def charged(size: int) -> int:
    """What a file of `size` bytes takes of the limit: whole blocks."""
    return -(-size // BLOCK) * BLOCK


def header_of(name: str, size: int, digest: bytes) -> bytes:
    """The header of entry `name`, whose payload has `size` bytes and this xxh3_128."""
    return _LAYOUT.pack(_MAGIC, size, digest, bytes.fromhex(name))


def intact(fd: int, name: str, size: int) -> bool:
    """Whether the file `fd`, of `size` bytes, is entry `name` as it was written.

    Read, not mapped: a bad sector is an OSError then, and ends the process under a map. 1/18 s a GB from the page
    cache.

    Raises:
        OSError: it cannot be read.
    """
    import xxhash

    head = os.pread(fd, HEADER, 0)
    if len(head) < HEADER:
        return False
    digest = _LAYOUT.unpack(head)[2]
    if head != header_of(name, size - HEADER, digest):
        return False
    found, at = xxhash.xxh3_128(), HEADER
    while block := os.pread(fd, _AT_ONCE, at):
        found.update(block)
        at += len(block)
    return at == size and bool(found.digest() == digest)


@final
class EntryWriter:
    """A binary file that is written once, front to back, into `fd`: what Arrow and others write a payload to."""

    closed = False

    def __init__(self, fd: int) -> None:
        import xxhash

        self._fd = fd
        self._digest = xxhash.xxh3_128()
        self.size = 0

    def writable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Bytes of the payload so far."""
        return self.size

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """The descriptor is its owner's."""

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append to the payload."""
        view = memoryview(data).cast("B")
        rest = view
        while rest:
            rest = rest[os.pwrite(self._fd, rest, HEADER + self.size + len(view) - len(rest)) :]
        self._digest.update(view)
        self.size += len(view)
        return len(view)

    def finish(self, name: str) -> None:
        """Put the header before the payload."""
        os.pwrite(self._fd, header_of(name, self.size, self._digest.digest()), 0)


def write_payload(fd: int, name: str, size: int, write: Callable[[EntryWriter], object]) -> None:
    """Fill `fd` with entry `name`, whose payload `write` writes.

    Not synced: a crash of the machine may leave a damaged entry, which reading finds, and costs one fetch; a sync would
    cost each entry tens of milliseconds.

    Raises:
        ValueError: it was not `size` bytes.
    """
    writer = EntryWriter(fd)
    write(writer)
    if writer.size != size:
        raise ValueError(f"{writer.size:,} bytes were written and {size:,} promised")
    writer.finish(name)
