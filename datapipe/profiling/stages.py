"""What each stage did: how often, how long, how busy, how much of it waiting.

What enters: spans, and the window they are judged over. What leaves: one row per stage.
Invariant: utilisation is busy time over the time its threads were there; service is from having the input to having
the output, so waiting for input ("starved") and for room downstream ("blocked") are apart from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from datapipe.events import HIT, MISS

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


def stage_rows(spans: npt.NDArray[np.void], stages: Sequence[str], *, path: Mapping[str, int]) -> tuple[StageRow, ...]:
    """One row per stage that has spans, in the order of `stages`.

    Args:
        spans: structured array of `events.FIELDS`.
        stages: stage names by number.
        path: ns of the critical path per stage.
    """
    import numpy as np

    whole = sum(path.values()) or 1
    threads_of, inverse = np.unique(spans["thread"], return_inverse=True)
    came = np.full(len(threads_of), np.iinfo(np.int64).max)
    left = np.zeros(len(threads_of), dtype=np.int64)
    np.minimum.at(came, inverse, spans["get"])
    np.maximum.at(left, inverse, spans["put"])
    # A loader that makes its threads anew each epoch has many, none of which was there all along.
    there = dict(zip(threads_of.tolist(), (left - came).tolist(), strict=True))
    rows = []
    for number in np.unique(spans["stage"]).tolist():
        name = stages[number]
        if name in ("step", "epoch"):
            continue
        mine = spans[spans["stage"] == number]
        service = (mine["end"] - mine["start"]).astype(np.int64)
        busy, ran_on = int(service.sum()), np.unique(mine["thread"]).tolist()
        time_there = sum(there[thread] for thread in ran_on)
        cpu = int(mine["cpu"].sum())
        p50, p95 = np.percentile(service, [50, 95]).tolist()
        rows.append(
            StageRow(
                name=name,
                count=len(mine),
                threads=len(ran_on),
                busy=busy,
                mean=float(service.mean()),
                p50=p50,
                p95=p95,
                bytes=int(mine["bytes"].sum()),
                utilisation=busy / time_there if time_there > 0 else 0.0,
                cpu=cpu / busy if cpu and busy else None,
                starved=int(np.maximum(mine["start"] - mine["get"], 0).sum()),
                blocked=int(np.maximum(mine["put"] - mine["end"], 0).sum()),
                hits=int(np.count_nonzero(mine["flags"] & HIT)),
                misses=int(np.count_nonzero(mine["flags"] & MISS)),
                path=path.get(name, 0) / whole,
            )
        )
    return tuple(rows)
