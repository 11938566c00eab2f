"""Which processes there are, and whether they end."""

from __future__ import annotations

import os
import time
from pathlib import Path


def children(pid=None):
    """Processes started by a process, that are not zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(parent) == (pid or os.getpid()) and state != "Z":
                found.append(int(entry.name))
    return found


def gone(pids, seconds=60.0):
    """Whether all these processes end; the time is a bound against hanging, not a measurement."""
    until = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}").exists() and pid in alive() for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def alive():
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                    found.add(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found
