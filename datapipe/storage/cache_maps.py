"""What this process has mapped of the cache, and has found to be whole.

What enters: an entry's name, the identity of its file, its mapping. What leaves: the mapping, the next time, if the
file is still the same. Invariant: a mapping is given only for the file that it is of, and those held without being in
use are bounded in bytes.

Mapping a row group of 8 MB and faulting its pages in costs 0.25 ms, a third of gathering it; a held one 0.02. A held
entry that another process evicts keeps its space until this one asks for it, or holds others.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.locks import new_lock

if TYPE_CHECKING:
    import os

Identity = tuple[int, int, int, int]

MOST_BYTES: Final = 1 << 30
SHARE: Final = 4
"""At most a quarter of the limit: what is held may be space that eviction does not free at once."""


def identity_of(status: os.stat_result) -> Identity:
    """What changes when a file is replaced, or written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@final
class Maps:
    """Mappings by entry, the most recently used; safe to share by threads.

    Args:
        limit: the cache's, in bytes.
    """

    def __init__(self, limit: int) -> None:
        self._most = min(MOST_BYTES, limit // SHARE)
        self._lock = new_lock()
        self._held: OrderedDict[str, tuple[Identity, Any]] = OrderedDict()
        self._bytes = 0
        self._whole: dict[str, Identity] = {}

    def checked(self, name: str, identity: Identity) -> bool:
        """Whether this very file was found whole before, or written by this process."""
        return self._whole.get(name) == identity

    def note(self, name: str, identity: Identity) -> None:
        """This file is whole."""
        self._whole[name] = identity

    def get(self, name: str, identity: Identity) -> Any:
        """The mapping of this file, or None."""
        with self._lock:
            held = self._held.get(name)
            if held is None or held[0] != identity:
                return None
            self._held.move_to_end(name)
            return held[1]

    def put(self, name: str, identity: Identity, mapped: Any) -> None:
        """Hold a mapping of a file that is whole."""
        self._whole[name] = identity
        self.drop(name, whole=False)
        gone = []
        with self._lock:
            if mapped.size <= self._most:
                self._held[name] = identity, mapped
                self._bytes += mapped.size
            while self._bytes > self._most:
                gone.append(self._held.popitem(last=False)[1][1])
                self._bytes -= gone[-1].size
        gone.clear()  # unmapped here, where no other thread waits for it

    def drop(self, name: str, *, whole: bool = True) -> None:
        """Let go of a mapping, and (`whole`) of having found it so."""
        with self._lock:
            held = self._held.pop(name, None)
            if held is not None:
                self._bytes -= held[1].size
        if whole:
            self._whole.pop(name, None)

    def names(self) -> list[str]:
        """Of all that are held."""
        with self._lock:
            return list(self._held)
