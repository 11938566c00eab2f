"""Blocks made larger: the jobs of several row groups done as one.

What enters: a workload, and how many row groups become one. What leaves: a workload with as many block jobs fewer.
Invariant: the work is the same but for the requests that are saved; whatever needed one of the row groups needs the
larger one. That a block is larger shows at the ends of a run and in how long the loop waits for one: shorter requests
alone would not show it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from datapipe.events import HIT
from datapipe.profiling.waits import QUEUE

if TYPE_CHECKING:
    from datapipe.profiling.costs import Segment
    from datapipe.profiling.jobs import Job
    from datapipe.profiling.workload import Workload


def larger_blocks(work: Workload, factor: int, *, saved_once: float) -> Workload:
    """Every `factor` row groups as one.

    Args:
        work: what was done.
        factor: row groups that become one, 2 or more.
        saved_once: ns that a request waits whatever its size: saved by all but the first of them.
    """
    alike: dict[tuple[int, str], list[int]] = {}
    for at, job in enumerate(work.jobs):
        if job.block:
            alike.setdefault((job.pool, job.work[-1].stage), []).append(at)
    lead = list(range(len(work.jobs)))  # of each job the one that it becomes part of
    for members in alike.values():
        for place, at in enumerate(members):
            lead[at] = members[place - place % factor]
    parts: dict[int, list[Job]] = {}
    for at, job in enumerate(work.jobs):
        parts.setdefault(lead[at], []).append(job)
    for at, job in enumerate(work.jobs):  # what is prepared once a row group is prepared once a larger one
        if not job.block and {s.stage for s in job.work} <= {QUEUE, "prepare"} and any(lead[o] != o for o in job.needs):
            parts[at] = [dataclasses.replace(job, work=())]
    number = {at: n for n, at in enumerate(parts)}
    jobs = tuple(
        dataclasses.replace(
            group[0],
            batch=min(job.batch for job in group),
            needs=tuple(sorted({number[lead[need]] for job in group for need in job.needs} - {number[at]})),
            work=_together([job.work for job in group], saved_once),
        )
        for at, group in parts.items()
    )
    takes = tuple(
        take if take.job < 0 else dataclasses.replace(take, job=number[lead[take.job]]) for take in work.takes
    )
    return dataclasses.replace(work, jobs=jobs, takes=takes)


def _together(works: list[tuple[Segment, ...]], saved_once: float) -> tuple[Segment, ...]:
    """The same work in one go: one hand-over, and requests but the first wait so much less."""
    whole = list(works[0])
    for segment in (segment for other in works[1:] for segment in other):
        if segment.stage == "fetch" and segment.hit != HIT:
            whole.append(dataclasses.replace(segment, idle=max(0.0, segment.idle - saved_once)))
        elif segment.stage != QUEUE:
            whole.append(segment)
    return tuple(whole)
