"""Batches that a loader leaves to the loop, because handing one over costs as much as making it.

What enters: a workload, as recorded or with a change. What leaves: the same work, where batches are cheap as the loop's
own. Invariant: no work is lost or made; of a loader that hands all of them over nothing is moved.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from datapipe.profiling.waits import QUEUE

if TYPE_CHECKING:
    from datapipe.profiling.workload import Workload

_MAKING: Final = ("gather", "transform", "collate")
"""What a loader of ours does to make a batch of rows that are found."""


def cheap_by_the_loop(work: Workload) -> Workload:
    """With batches made by the loop as it takes them, where they take less than `work.cheap`."""
    made = {take.job for take in work.takes if take.job >= 0}
    if not work.cheap or _making_ns(work, made) >= work.cheap:
        return work
    jobs, takes = list(work.jobs), []
    for take in work.takes:
        if take.job >= 0:
            job = jobs[take.job]
            own = tuple(s for s in job.work if s.stage in _MAKING)
            rest = tuple(s for s in job.work if s.stage not in _MAKING)
            jobs[take.job] = dataclasses.replace(job, work=rest if any(s.stage != QUEUE for s in rest) else ())
            takes.append(dataclasses.replace(take, work=(*own, *take.work)))
        else:
            takes.append(take)
    return dataclasses.replace(work, jobs=tuple(jobs), takes=tuple(takes))


def _making_ns(work: Workload, jobs: set[int]) -> float:
    """Lower quartile of what batches take once their rows are found, as the loader itself has it; 0 for none."""
    took = sorted(sum(s.cpu + s.idle for s in work.jobs[j].work if s.stage in _MAKING) for j in jobs)
    return took[len(took) // 4] if took else 0.0
