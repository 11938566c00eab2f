"""Leases: which entries are in use by a living process, so that those are not evicted.

    leases/<pid>-<start time>-<pid namespace>-<8 hex>      slots of 20 bytes: a name, or zeros

What enters: names. What leaves: slots, and the set of all names in use. Invariant: a lease ends with its process,
however it ended. Its file is locked by its owner as long as that lives; and where a child that was forked holds on to
the lock, the pid and the start time tell that the owner is gone.

A lease is about space: evicting a mapped file frees none. A reader whose lease is missed (no free slot, a disk that is
full) keeps what it has mapped all the same.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections import deque
from typing import Final, final

from datapipe.locks import new_lock
from datapipe.storage.cache_entry import NAME_BYTES
from datapipe.storage.cache_locks import lock_now

FOLDER: Final = "leases"
SLOTS: Final = 2048
_FREE: Final = bytes(NAME_BYTES)
_BEING_MADE: Final = 60.0
"""Seconds that a lease file may take to be made; an older one is left by a crash."""


def started_at(pid: int) -> int:
    """When a process of this pid namespace started, in clock ticks since boot: proc(5), stat, field 22; 0: no such."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def _namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116
    except OSError:
        return 0


@final
class Leases:
    """This process's leases in one cache folder. Taking and ending one is a write of 20 bytes, without a lock.

    Args:
        root: a descriptor of the folder, which is this object's from now on.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._making = new_lock()
        self._owner = 0
        self._fd = -1
        self._name = ""
        self._free: deque[int] = deque()

    def take(self, name: str) -> tuple[int, int]:
        """Lease an entry: (process, slot), to be given back; slot -1 if there was none left."""
        if self._owner != os.getpid():
            self._make()
        try:
            slot = self._free.pop()
        except IndexError:
            return self._owner, -1
        try:
            os.pwrite(self._fd, bytes.fromhex(name), slot * NAME_BYTES)
        except OSError:
            self._free.append(slot)
            return self._owner, -1
        return self._owner, slot

    def end(self, lease: tuple[int, int]) -> None:
        """Give a lease back; called by the garbage collector too, so it must not wait for anything."""
        owner, slot = lease
        if slot < 0 or owner != os.getpid() or self._fd < 0:
            return  # of the parent, which ends it itself
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, _FREE, slot * NAME_BYTES)
        self._free.append(slot)

    def _make(self) -> None:
        with self._making:
            pid = os.getpid()
            if self._owner == pid:
                return
            self._fd, self._free = -1, deque()
            name = f"{pid}-{started_at(pid)}-{_namespace():x}-{secrets.token_hex(4)}"
            try:
                fd = os.open(
                    f"{FOLDER}/.{name}", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._root
                )
                try:
                    # Locked before it gets its name: nobody finds it there without.
                    if lock_now(fd):
                        os.pwrite(fd, _FREE * SLOTS, 0)
                        os.rename(f"{FOLDER}/.{name}", f"{FOLDER}/{name}", src_dir_fd=self._root, dst_dir_fd=self._root)
                        self._fd, self._name, fd = fd, name, -1
                        self._free = deque(range(SLOTS))
                finally:
                    if fd >= 0:
                        os.close(fd)
            except OSError:
                pass  # a disk that is full or read-only: no leases, and nothing is evicted there either
            self._owner = pid

    def close(self) -> None:
        """End all of this process's leases."""
        if self._fd >= 0 and self._owner == os.getpid():
            with contextlib.suppress(OSError):
                os.unlink(f"{FOLDER}/{self._name}", dir_fd=self._root)
        for fd in (self._fd, self._root):
            if fd >= 0:
                os.close(fd)
        self._fd = self._root = -1

    def __del__(self) -> None:
        try:  # noqa: SIM105  (other modules' names are gone at the interpreter's exit)
            self.close()
        except Exception:  # noqa: S110  (the process's end is the lease's)
            pass


def leased(root: int) -> set[str]:
    """The names of all entries in use by living processes; what the dead left is removed."""
    names: set[str] = set()
    mine = _namespace()
    for file in _listed(root):
        with contextlib.suppress(OSError):
            fd = os.open(f"{FOLDER}/{file}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
            try:
                if file.startswith("."):
                    if time.time() - os.fstat(fd).st_mtime > _BEING_MADE:
                        os.unlink(f"{FOLDER}/{file}", dir_fd=root)
                elif _gone(file, mine) or lock_now(fd):
                    os.unlink(f"{FOLDER}/{file}", dir_fd=root)
                else:
                    slots = os.pread(fd, SLOTS * NAME_BYTES, 0)
                    found = {slots[at : at + NAME_BYTES] for at in range(0, len(slots), NAME_BYTES)}
                    names.update(name.hex() for name in found if name != _FREE)
            finally:
                os.close(fd)
    return names


def _listed(root: int) -> list[str]:
    try:
        folder = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except OSError:
        return []
    try:
        return os.listdir(folder)  # noqa: PTH208  (of a descriptor)
    finally:
        os.close(folder)


def _gone(file: str, namespace: int) -> bool:
    """Whether the file's owner is known to be dead: only of a process that can be seen from here."""
    pid, start, space, *_ = [*file.split("-"), "", ""]
    if not (namespace and pid.isdecimal() and start.isdecimal() and space == f"{namespace:x}" and int(start)):
        return False
    return started_at(int(pid)) != int(start)
