"""Where the bytes came from: network, disk, page cache or datapipe's own cache, over the run and in each epoch.

What enters: the loader's "fetch" spans (bytes, hit or miss, remote or not) and the kernel's counters. What leaves: an
`IoTruth`.
Invariant: `fetched` is `network + cache + local`; of what lies on this machine (`local` and `cache`) the disk gave
`disk`, at most all of it, and the page cache the rest.

Events say what was asked of storage, counters what storage really did, and the difference is the page cache. A run
whose second epoch reads nothing from the disk measures memory, not storage (mlcommons/storage#464): so each epoch says
whether it was cold. `device_reads` is all that the process and its children read from disks, imports and swap too.

Where the loader records no bytes (one that is not datapipe's), what is left is the kernel's view (`seen` is false):
read calls against disk reads. Read calls include pipes, so the page cache is then an upper bound.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.events import HIT, REMOTE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.process_counters import Counters

    Ints = npt.NDArray[np.int64]

COLD: Final = 0.9
WARM: Final = 0.1
"""Share of the local bytes that the disk gave: at or above the first a stretch is cold, at or below the second warm."""
_SMALL: Final = 1 << 20
"""Bytes: what is less is not judged; a run's own files and libraries come to as much."""
MOST_EPOCHS: Final = 1_000


@final
@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes by source over one stretch of the run.

    Attributes:
        network: from remote storage. cache: from datapipe's cache. local: from files of this machine.
        disk: of `cache + local`, what storage delivered. page_cache: the rest of it.
        device_reads: all bytes read from disks, or None where the kernel does not say.
        state: "cold", "partly warm", "warm", "remote" (from the network), "idle" (under 1 MiB) or "not told".
    """

    network: int
    cache: int
    local: int
    disk: int
    page_cache: int
    device_reads: int | None
    state: str

    @property
    def fetched(self) -> int:
        """All bytes that were asked of storage."""
        return self.network + self.cache + self.local


@final
@dataclass(frozen=True, kw_only=True)
class IoTruth:
    """Input and output over the run.

    Attributes:
        seen: whether the loader's events told bytes; if not, `total` is the kernel's view (all of it "local").
        total: over the run. epochs: each epoch, at most `MOST_EPOCHS`.
        read_calls: bytes given to read calls (files, pipes); written: bytes written to storage.
        machine_network: bytes the machine received meanwhile, whoever asked for them.
        major_faults: pages of mapped files (or swap) that a thread waited for.
        pressure: share of the wall in which some task of the machine waited for input/output (PSI "some").
            Each of these is None where the system does not tell.
    """

    seen: bool
    total: Traffic
    epochs: tuple[Traffic, ...]
    read_calls: int | None
    written: int | None
    machine_network: int | None
    major_faults: int | None
    pressure: float | None

    @property
    def warning(self) -> str | None:
        """What to tell the user, or None: epochs after the first that no storage was read in."""
        first, later = self.epochs[:1], self.epochs[1:]
        if first and later and first[0].state in ("cold", "partly warm") and all(e.state == "warm" for e in later):
            return "From the second epoch on the data came out of memory: these epochs do not measure the storage."
        return None


def io_truth(
    spans: npt.NDArray[np.void], fetch: int, counters: Sequence[Counters], epochs: Sequence[tuple[int, int]]
) -> IoTruth | None:
    """Where the bytes came from; None where neither events nor counters say.

    Args:
        spans: structured array of `events.FIELDS`.
        fetch: the number of the stage "fetch" (-1: none).
        counters: readings in order of time.
        epochs: (start, end) of each epoch, ns.
    """
    import numpy as np

    reads = spans[(spans["stage"] == fetch) & (spans["bytes"] > 0)]
    if not len(reads) and not any(one.read_disk is not None for one in counters):
        return None
    at = np.array([one.at for one in counters if one.read_disk is not None], dtype=np.int64)
    disk = np.array([one.read_disk for one in counters if one.read_disk is not None], dtype=np.int64)
    calls = _grown(counters, "read_calls")
    whole = int(disk[-1] - disk[0]) if len(disk) else None
    seen = bool(len(reads))
    total = _traffic(reads, whole) if seen else _unseen(calls or 0, whole)
    each = []
    for start, end in itertools.islice(epochs, MOST_EPOCHS) if seen else ():
        # A block read ahead of its epoch counts where it was read, as the disk's counter does.
        mine = reads[(reads["end"] > start) & (reads["end"] <= end)]
        read = round(float(np.interp(end, at, disk) - np.interp(start, at, disk))) if len(at) else None
        each.append(_traffic(mine, read))
    return IoTruth(
        seen=seen, total=total, epochs=tuple(each), read_calls=calls, written=_grown(counters, "written_disk"),
        machine_network=_grown(counters, "network"), major_faults=_grown(counters, "major_faults"),
        pressure=stalled_share(counters, 1),
    )  # fmt: skip


def stalled_share(counters: Sequence[Counters], resource: int) -> float | None:
    """Share of the time between the first and the last reading in which some task waited; `PRESSURES` numbers them."""
    told = [(one.at, stalled) for one in counters if (stalled := one.stalled[resource]) is not None]
    if len(told) < 2 or told[-1][0] <= told[0][0]:
        return None
    return min(1.0, max(0.0, (told[-1][1] - told[0][1]) / (told[-1][0] - told[0][0])))


def _grown(counters: Sequence[Counters], name: str) -> int | None:
    told = [value for one in counters if (value := getattr(one, name)) is not None]
    return max(0, told[-1] - told[0]) if len(told) > 1 else None


def _traffic(reads: npt.NDArray[np.void], device: int | None) -> Traffic:
    flags, size = reads["flags"], reads["bytes"]
    hit = flags & HIT != 0
    remote = (flags & REMOTE != 0) & ~hit
    cache, network = int(size[hit].sum()), int(size[remote].sum())
    local = int(size.sum()) - cache - network
    near = cache + local
    disk = min(near, device or 0)
    return Traffic(
        network=network, cache=cache, local=local, disk=disk, page_cache=near - disk, device_reads=device,
        state=_state(network, near, disk if device is not None else None),
    )  # fmt: skip


def _unseen(calls: int, device: int | None) -> Traffic:
    """What the kernel alone says: mapped files are read without a call, so the disk may give more than calls did."""
    near = max(calls, device or 0)
    disk = device or 0
    return Traffic(
        network=0, cache=0, local=near, disk=disk, page_cache=near - disk, device_reads=device,
        state=_state(0, near, device),
    )  # fmt: skip


def _state(network: int, near: int, disk: int | None) -> str:
    if network + near < _SMALL:
        return "idle"
    if network >= near:
        return "remote"
    if disk is None:
        return "not told"
    share = disk / near
    return "cold" if share >= COLD else "warm" if share <= WARM else "partly warm"
