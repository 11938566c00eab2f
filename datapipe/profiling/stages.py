"""What each stage did: how often, how long, how busy, how much of it waiting.

What enters: spans, at once or by stretches. What leaves: one row per stage.
Invariant: utilisation is busy time over the time its threads were there; service is from having the input to having
the output, so waiting for input ("starved") and for room downstream ("blocked") are apart from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.events import DEVICE, HIT, MISS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt


@final
@dataclass(frozen=True, kw_only=True)
class StageRow:
    """One stage over the run. Times in ns.

    Attributes:
        name: the stage.
        count: spans.
        threads: threads that ran it.
        busy: sum of service times (`end - start`).
        mean, p50, p95: service time.
        bytes: moved, as the stage counted them.
        utilisation: busy ÷ time its threads were there (each from its first span of any stage to its last).
        cpu: CPU time ÷ busy, or None where no span recorded CPU time; well below 1, the stage waits for input/output.
        starved: sum of `start - get`.
        blocked: sum of `put - end`.
        hits, misses: spans whose bytes came from a cache, or from their source.
        path: share of the critical path, 0 to 1.
    """

    name: str
    count: int
    threads: int
    busy: int
    mean: float
    p50: float
    p95: float
    bytes: int
    utilisation: float
    cpu: float | None
    starved: int
    blocked: int
    hits: int
    misses: int
    path: float


_COLUMNS: Final = ("get", "start", "end", "put", "bytes", "cpu", "thread", "flags")


@final
class StageTally:
    """Adds up spans, a run's at once or a stretch of it after the other.

    Attributes:
        threads: thread → when its first span of any stage was asked for, and its last one's output accepted, ns.
        recorded: thread → spans.
    """

    def __init__(self) -> None:
        self.threads: dict[int, tuple[int, int]] = {}
        self.recorded: dict[int, int] = {}
        self._seen: dict[int, _Seen] = {}

    def add(self, spans: npt.NDArray[np.void]) -> None:
        """Add spans: a structured array of `events.FIELDS`."""
        import numpy as np

        for number, count in zip(*np.unique(spans["thread"], return_counts=True), strict=True):
            self.recorded[int(number)] = self.recorded.get(int(number), 0) + int(count)
        host = spans["flags"] & DEVICE == 0
        spans = spans if host.all() else spans[host]
        order = np.argsort(spans["thread"], kind="stable")
        threads_of, first_of = np.unique(spans["thread"][order], return_index=True)
        came = np.minimum.reduceat(spans["get"][order], first_of) if len(order) else threads_of
        left = np.maximum.reduceat(spans["put"][order], first_of) if len(order) else threads_of
        for thread, first, last in zip(threads_of.tolist(), came.tolist(), left.tolist(), strict=True):
            before = self.threads.get(thread, (first, last))
            self.threads[thread] = (min(before[0], first), max(before[1], last))
        order = np.argsort(spans["stage"], kind="stable")
        stages, first_of = np.unique(spans["stage"][order], return_index=True)
        columns = {name: spans[name][order] for name in _COLUMNS}
        for number, at, until in zip(stages.tolist(), first_of, np.append(first_of, len(order))[1:], strict=True):
            self._seen.setdefault(number, _Seen()).add({name: column[at:until] for name, column in columns.items()})

    def rows(self, stages: Sequence[str], *, path: Mapping[str, int]) -> tuple[StageRow, ...]:
        """One row per stage that has spans, in the order of `stages`.

        Args:
            stages: stage names by number.
            path: ns of the critical path per stage.
        """
        whole = sum(path.values()) or 1
        # A loader that makes its threads anew each epoch has many, none of which was there all along.
        there = {thread: left - came for thread, (came, left) in self.threads.items()}
        return tuple(
            self._seen[number].row(stages[number], there, path.get(stages[number], 0) / whole)
            for number in sorted(self._seen)
            if stages[number] not in ("step", "epoch")
        )


@final
class _Seen:
    """What was seen of one stage."""

    def __init__(self) -> None:
        self.service: list[npt.NDArray[np.integer[Any]]] = []
        self.threads: set[int] = set()
        self.sums = [0] * 6  # bytes, cpu, starved, blocked, hits, misses

    def add(self, mine: Mapping[str, npt.NDArray[Any]]) -> None:
        import numpy as np

        service = (mine["end"] - mine["start"]).astype(np.int64)
        # A million steps have eight of them: half the memory, where no service takes 4 s.
        brief = len(service) and service.min() >= 0 and service.max() < 1 << 32
        self.service.append(service.astype(np.uint32) if brief else service)
        self.threads |= set(np.unique(mine["thread"]).tolist())
        found = (
            int(mine["bytes"].sum()),
            int(mine["cpu"].sum()),
            int(np.maximum(mine["start"] - mine["get"], 0).sum()),
            int(np.maximum(mine["put"] - mine["end"], 0).sum()),
            int(np.count_nonzero(mine["flags"] & HIT)),
            int(np.count_nonzero(mine["flags"] & MISS)),
        )
        self.sums = [before + more for before, more in zip(self.sums, found, strict=True)]

    def row(self, name: str, there: Mapping[int, int], path: float) -> StageRow:
        import numpy as np

        service = np.concatenate(self.service, dtype=np.int64)
        busy, time_there = int(service.sum()), sum(there[thread] for thread in sorted(self.threads))
        p50, p95 = np.percentile(service, [50, 95]).tolist()
        nbytes, cpu, starved, blocked, hits, misses = self.sums
        return StageRow(
            name=name, count=len(service), threads=len(self.threads), busy=busy, mean=float(service.mean()), p50=p50,
            p95=p95, bytes=nbytes, utilisation=busy / time_there if time_there > 0 else 0.0,
            cpu=cpu / busy if cpu and busy else None, starved=starved, blocked=blocked, hits=hits, misses=misses,
            path=path,
        )  # fmt: skip
