"""What the kernel counts about this process and its machine: read from `/proc` and the control group, in microseconds.

What enters: nothing. What leaves: a `Counters`, every field a plain number; what the system does not tell is None.
Invariant: reading never raises, starts no process, and asks a device nothing unless the run itself started it.

Sources: proc(5) for `io`, `stat` and `status`; Documentation/accounting/psi.rst for `/proc/pressure` (the stall
totals are µs since boot, of the whole machine); Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst for
limits. `read_bytes` is what storage really delivered for this process, `rchar` what its read calls were given, pipes
and terminals included; the difference came out of the page cache (or a pipe).
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Container

_PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_TICK_NS: Final = 1_000_000_000 // (os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100)
_NO_LIMIT: Final = 1 << 60
"""Bytes; cgroup v1 writes "no limit" as a number of about 2⁶³."""
PRESSURES: Final = ("cpu", "io", "memory")


@final
@dataclass(frozen=True, kw_only=True)
class Counters:
    """One reading. Bytes, ns or counts; those that only grow are since the process (or machine) began.

    Attributes:
        at: ns, on the spans' clock.
        resident, anonymous, file, shared: bytes of this process; `shared` is shared memory (tmpfs, POSIX, SysV).
        locked: bytes that may not be swapped (mlock and pinned by the kernel's count).
        workers: resident bytes of child processes, what they share with this one counted again.
        pinned: page-locked host bytes of torch's allocator. device: bytes torch holds on the device.
        device_free: bytes free on the device, whoever uses the others.
        read_calls: bytes given to read calls. read_disk, written_disk: bytes moved from and to storage.
        network: bytes received by the machine, loopback left out.
        minor_faults, major_faults: page faults, without and with input/output.
        cpu: ns of CPU time, user and system.
        preempted, waited: involuntary and voluntary context switches.
        machine: ns of CPU time that all programs of the machine have used.
        queued: ns in which a thread of the run was ready and had no core, at least (`machine_watch`).
        stalled: per resource (`PRESSURES`), ns in which some task of the machine waited for it; None: no PSI.
    """

    at: int
    resident: int | None = None
    anonymous: int | None = None
    file: int | None = None
    shared: int | None = None
    locked: int | None = None
    workers: int = 0
    pinned: int | None = None
    device: int | None = None
    device_free: int | None = None
    read_calls: int | None = None
    read_disk: int | None = None
    written_disk: int | None = None
    network: int | None = None
    minor_faults: int | None = None
    major_faults: int | None = None
    cpu: int | None = None
    preempted: int | None = None
    waited: int | None = None
    machine: int | None = None
    queued: int | None = None
    stalled: tuple[int | None, ...] = (None, None, None)


def read_counters(*, children: tuple[int, ...] = ()) -> Counters:
    """Read everything once; some 0.2 ms on Linux, nothing but the time elsewhere.

    Args:
        children: process numbers whose resident bytes are summed as `workers`.
    """
    status = _table("/proc/self/status")
    moved = _table("/proc/self/io")
    minor, major, cpu = _of_stat(_read("/proc/self/stat"))
    pinned, device, free = _of_torch()
    return Counters(
        at=time.perf_counter_ns(),
        resident=_kib(status, "VmRSS"), anonymous=_kib(status, "RssAnon"), file=_kib(status, "RssFile"),
        shared=_kib(status, "RssShmem"), locked=_sum(_kib(status, "VmLck"), _kib(status, "VmPin")),
        workers=sum(_resident_of(child) for child in children),
        pinned=pinned, device=device, device_free=free,
        read_calls=_number(moved, "rchar"), read_disk=_number(moved, "read_bytes"),
        written_disk=_number(moved, "write_bytes"), network=_received(_read("/proc/net/dev")),
        minor_faults=minor, major_faults=major, cpu=cpu,
        preempted=_number(status, "nonvoluntary_ctxt_switches"), waited=_number(status, "voluntary_ctxt_switches"),
        machine=_machine_cpu(_read("/proc/stat")),
        stalled=tuple(_stalled(_read(f"/proc/pressure/{name}")) for name in PRESSURES),
    )  # fmt: skip


@final
@dataclass(frozen=True, kw_only=True)
class ChildCounters:
    """What one child process has moved and used so far; as the fields of `Counters`."""

    read_calls: int
    read_disk: int
    major_faults: int
    cpu: int


def child_processes() -> tuple[int, ...]:
    """Process numbers of this process's children, whichever of its threads started them; () where it is not told."""
    found: list[int] = []
    try:
        tasks = os.listdir("/proc/self/task")  # noqa: PTH208  (names are all it takes)
    except OSError:
        return ()
    for task in tasks:
        found += [int(child) for child in _read(f"/proc/self/task/{task}/children").split()]
    return tuple(found)


def read_child(child: int) -> ChildCounters | None:
    """A child's counters; None: it has ended, or it is another user's."""
    moved, (_, major, cpu) = _table(f"/proc/{child}/io"), _of_stat(_read(f"/proc/{child}/stat"))
    if not moved or major is None or cpu is None:
        return None
    calls, disk = _number(moved, "rchar"), _number(moved, "read_bytes")
    return ChildCounters(read_calls=calls or 0, read_disk=disk or 0, major_faults=major, cpu=cpu)


def run_delays(children: tuple[int, ...], leave_out: Container[int] = ()) -> dict[int, int]:
    """Ns that each thread of this process, and the first of each child, was ready without a core; by its number.

    From `schedstat` (Documentation/scheduler/sched-stats.rst); {} where the kernel does not say.
    """
    try:
        tasks = [int(task) for task in os.listdir("/proc/self/task")]  # noqa: PTH208  (names are all it takes)
    except OSError:
        return {}
    files = {task: f"/proc/self/task/{task}/schedstat" for task in tasks if task not in leave_out}
    files |= {child: f"/proc/{child}/schedstat" for child in children}
    told = ((task, _read(file).split()) for task, file in files.items())
    return {task: int(fields[1]) for task, fields in told if len(fields) > 1}


def memory_limit() -> tuple[int, str] | None:
    """The tightest limit on this process's memory in bytes, and what sets it; None: it is not told.

    Every control group above the process's own counts too; the machine's memory is the limit of last resort.
    """
    found: list[tuple[int, str]] = []
    for root, file, group in _memory_groups():
        place = group
        while True:
            text = _read(f"{root}{place}/{file}").strip()
            if text.isdigit() and 0 < int(text) < _NO_LIMIT:
                found.append((int(text), "the control group"))
            if place in ("", "/"):
                break
            place = os.path.dirname(place)  # noqa: PTH120  (a path of the kernel's, as text)
    total = _kib(_table("/proc/meminfo"), "MemTotal")
    if total is not None:
        found.append((total, "the machine"))
    return min(found, default=None)


def _memory_groups() -> list[tuple[str, str, str]]:
    """(mount, file with the limit, this process's group) of each hierarchy that limits memory."""
    groups = []
    for line in _read("/proc/self/cgroup").splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            groups.append(("/sys/fs/cgroup", "memory.max", path))
        elif "memory" in controllers.split(","):
            groups.append(("/sys/fs/cgroup/memory", "memory.limit_in_bytes", path))
    return groups


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123  (kernel files, read all the time)
            return file.read()
    except OSError:
        return ""


def _table(path: str) -> dict[str, str]:
    """Lines of "name: value"."""
    pairs = (line.partition(":") for line in _read(path).splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _number(table: dict[str, str], name: str) -> int | None:
    text = table.get(name, "")
    return int(text) if text.isdigit() else None


def _kib(table: dict[str, str], name: str) -> int | None:
    text = table.get(name, "").removesuffix("kB").strip()
    return int(text) << 10 if text.isdigit() else None


def _sum(*values: int | None) -> int | None:
    told = [value for value in values if value is not None]
    return sum(told) if told else None


def _of_stat(text: str) -> tuple[int | None, int | None, int | None]:
    """Minor faults, major faults, CPU ns. The command's name, in brackets, may hold spaces and brackets itself."""
    fields = text.rpartition(")")[2].split()
    if len(fields) < 13:
        return None, None, None
    return int(fields[7]), int(fields[9]), (int(fields[11]) + int(fields[12])) * _TICK_NS


def _resident_of(process: int) -> int:
    fields = _read(f"/proc/{process}/statm").split()
    return int(fields[1]) * _PAGE if len(fields) > 1 else 0


def _received(text: str) -> int | None:
    found = [line.partition(":") for line in text.splitlines() if ":" in line]
    return sum(int(rest.split()[0]) for name, _, rest in found if name.strip() != "lo") if found else None


def _machine_cpu(text: str) -> int | None:
    """Ns of the line "cpu": user, nice, system, interrupts and what a host took; idle and waiting left out."""
    fields = text.partition("\n")[0].split()
    if len(fields) < 9 or fields[0] != "cpu":
        return None
    return sum(int(fields[place]) for place in (1, 2, 3, 6, 7, 8)) * _TICK_NS


def _stalled(text: str) -> int | None:
    """Ns of the line "some avg10=… total=µs"."""
    for line in text.splitlines():
        if line.startswith("some "):
            total = line.rpartition("total=")[2]
            return int(total) * 1_000 if total.isdigit() else None
    return None


def _of_torch() -> tuple[int | None, int | None, int | None]:
    """Page-locked host bytes, device bytes held, device bytes free; of a device that the run has started itself."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    # A module that is still being imported, or a build without CUDA, has none of this.
    if cuda is None or not getattr(cuda, "is_initialized", bool)():
        return None, None, None
    host: dict[str, int] = getattr(cuda, "host_memory_stats", dict)()
    held = host.get("allocated_bytes.current", host.get("reserved_bytes.current"))
    free, _ = cuda.mem_get_info()
    return (None if held is None else int(held)), int(cuda.memory_reserved()), int(free)
