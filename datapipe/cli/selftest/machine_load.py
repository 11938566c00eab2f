"""What else the machine does meanwhile: cores that other programs use, and how late it wakes a thread.

What enters: the kernel's counters. What leaves: figures that grades are published beside.
Invariant: both are measured apart from the profiler and from what it is graded on, so a case may be left out for them.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


@final
class OtherPrograms:
    """Cores that other programs used inside a `with` block: `cores`; None where the system does not say.

    All busy time of the machine's cores (`/proc/stat`: all but idle and iowait; proc(5)), less what this process and
    its ended children used, over the wall. The kernel counts in ticks of 10 ms: blocks of half a second are right to
    some hundredths of a core.
    """

    def __init__(self) -> None:
        self.cores: float | None = None

    def __enter__(self) -> Self:
        self._before = (busy_seconds(), _own_seconds(), time.perf_counter())
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        busy, own, wall = self._before
        now = busy_seconds()
        if busy is not None and now is not None:
            passed = time.perf_counter() - wall
            self.cores = max(0.0, (now - busy - (_own_seconds() - own)) / passed)


def busy_seconds() -> float | None:
    """CPU time of all programs since the machine started; None where the system does not say."""
    try:
        with open("/proc/stat", encoding="ascii") as file:  # noqa: PTH123  (a kernel file)
            ticks = [int(value) for value in file.readline().split()[1:9]]
        return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def _own_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def lateness_ns() -> float:
    """How late this machine wakes a thread now: 90th percentile over 50 sleeps of 2 ms, ns."""
    late = []
    for _ in range(50):
        began = time.perf_counter_ns()
        time.sleep(0.002)
        late.append(time.perf_counter_ns() - began - 2_000_000)
    return float(sorted(late)[45])
