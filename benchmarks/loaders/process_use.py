"""What this process has used so far: memory, and bytes from the disk.

What enters: what the kernel says of it and its children. What leaves: numbers; 0 where it says nothing.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def memory() -> float:
    """MB of this process and its children that no file backs."""
    total = 0
    for pid in [os.getpid(), *children(os.getpid())]:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Anonymous:"):
                    total += int(line.split()[1])
    return total / 1024


def children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(each) for each in (task / "children").read_text().split()]
    return found


def bytes_read() -> int:
    """Bytes this process has had from the disk."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/io").read_text().splitlines():
            if line.startswith("read_bytes:"):
                return int(line.split()[1])
    return 0
