"""How much the cache holds, and what goes when it is full.

What enters: the bytes that an entry will take. What leaves: whether there is room for it now. Invariant: under one
lock, an entry's bytes are counted before they are written, so that entries and parts together stay within the limit
however many processes write; the count is only ever too high (after a crash), until the next scan of the folder.

What goes first is what was used longest ago and is not leased. A scan lists the whole folder, so it makes room for a
sixteenth of the limit at once: its cost per entry written does not grow with the cache.

Each process keeps to its own limit when it writes: of two jobs with different ones, the one with the smaller makes
the folder as small as it was told to.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, final

from datapipe.storage.cache_entry import NAME_BYTES, charged
from datapipe.storage.cache_folder import PART, claim_part, drop_part, files, remove_entry
from datapipe.storage.cache_leases import leased
from datapipe.storage.cache_locks import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

SLACK: Final = 16
FEW: Final = 64
"""Scanning fewer entries costs less than writing one: no more than needed goes then."""
LOCK_SECONDS: Final = 30.0
"""Others hold the lock for a write of 16 bytes, or a scan: 0.5 s for 10^5 entries."""
_FILE: Final = "room"
_NAME: Final = 2 * NAME_BYTES


@final
class Room:
    """The account of one cache folder, kept by all processes together.

    Args:
        root: the folder's descriptor. limit: bytes.
    """

    def __init__(self, root: int, limit: int) -> None:
        self._root = root
        self._limit = limit

    def reserve(self, fd: int, size: int) -> tuple[bool, int]:
        """Count a file that will have `size` bytes, and let its part `fd` have that length.

        Returns:
            Whether there is room, and how many entries went for it.

        Raises:
            OSError: the account cannot be kept. TimeoutError (an OSError): somebody holds its lock.
        """
        need, evicted = charged(size), 0
        if need > self._limit:
            return False, 0
        with self._account() as account:
            taken = _read(account)
            if taken is None or taken + need > self._limit:
                taken, evicted = self._evict(need)
            fits = taken + need <= self._limit
            if fits:
                os.ftruncate(fd, size)
                taken += need
            _write(account, taken)
        return fits, evicted

    def free(self, size: int) -> None:
        """A file of `size` bytes is gone, or was not written after all."""
        with contextlib.suppress(OSError), self._account() as account:
            taken = _read(account)
            if taken is not None:
                _write(account, max(0, taken - charged(size)))

    def drop_abandoned(self) -> None:
        """Remove the parts that killed processes left."""
        for name, status in files(self._root):
            if name.endswith(PART) and self._abandoned(name):
                self.free(status.st_size)

    def taken(self) -> int:
        """Bytes of the limit that are taken, by a scan of the folder."""
        return sum(charged(status.st_size) for _, status in files(self._root))

    @contextlib.contextmanager
    def _account(self) -> Iterator[int]:
        fd = os.open(_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._root)
        with locked(fd, LOCK_SECONDS):
            yield fd

    def _evict(self, need: int) -> tuple[int, int]:
        """Bytes taken after making room for `need`, and how many entries went."""
        taken, entries = 0, []
        for name, status in files(self._root):
            size = charged(status.st_size)
            if name.endswith(PART):
                if self._abandoned(name):
                    continue
            elif len(name) == _NAME:
                entries.append((status.st_atime_ns, name, size))
            taken += size
        if taken + need <= self._limit:
            return taken, 0
        in_use = leased(self._root)
        slack = self._limit // SLACK if len(entries) >= FEW else 0
        goal = max(need, self._limit - slack)
        evicted = 0
        for _, name, size in sorted(entries):
            if taken + need <= goal:
                break
            if name not in in_use and remove_entry(self._root, name) is not None:
                taken -= size
                evicted += 1
        return taken, evicted

    def _abandoned(self, part: str) -> bool:
        """Whether a part is nobody's any more: it is removed then."""
        name = part.removesuffix(PART)
        fd = claim_part(self._root, name)
        if fd is None:
            return False
        drop_part(self._root, name, fd)
        return True


def _read(fd: int) -> int | None:
    """The count, or None where there is none that can be trusted."""
    data = os.pread(fd, 17, 0)
    taken, check = int.from_bytes(data[:8], "little"), int.from_bytes(data[8:16], "little")
    return taken if len(data) == 16 and taken ^ check == (1 << 64) - 1 else None


def _write(fd: int, taken: int) -> None:
    os.pwrite(fd, taken.to_bytes(8, "little") + (taken ^ ((1 << 64) - 1)).to_bytes(8, "little"), 0)
