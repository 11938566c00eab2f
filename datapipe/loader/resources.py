"""What this process may use of the machine: CPUs and memory, as affinity, cgroup and launcher leave them to it.

What enters: the operating system's word. What leaves: numbers. Invariant: a limit that cannot be read is none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_CGROUP: Final = Path("/sys/fs/cgroup")


def cpus() -> float:
    """CPUs for this process: those it may run on, within the cgroup's quota, shared with the node's other ranks.

    Ranks: LOCAL_WORLD_SIZE, as torchrun sets it. The quota: `cpu.max`, microseconds per period (cgroup v2).
    """
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _words(_CGROUP / "cpu.max")
    if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit() and int(quota[1]):
        allowed = min(allowed, int(quota[0]) / int(quota[1]))
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1.0, allowed / (int(ranks) if ranks.isdigit() and int(ranks) else 1))


def free_memory() -> int | None:
    """Bytes that may still be taken: what the kernel calls available, or the cgroup leaves; None: not to be read."""
    found = [int(line.split()[1]) << 10 for line in _lines(Path("/proc/meminfo")) if line.startswith("MemAvailable:")]
    most, used = _words(_CGROUP / "memory.max"), _words(_CGROUP / "memory.current")
    if most and used and most[0].isdigit() and used[0].isdigit():
        # Page cache counts as used and is given back when asked for.
        cached = [int(line.split()[1]) for line in _lines(_CGROUP / "memory.stat") if line.startswith("inactive_file ")]
        found.append(max(0, int(most[0]) - int(used[0]) + sum(cached)))
    return min(found, default=None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()
