"""A known loader's own options as changes: what its user can set, asked of the replay and said in the loader's words.

What enters: a workload and the notes of its run, which describe its loader. What leaves: `Answer`s.
Invariant: every option that advice weighs can be asked here and is among `answers`, with the same prediction for the
same work.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.profiling.changes import Change, Prediction
from datapipe.profiling.loader_facts import DATAPIPE, TORCH, option_of
from datapipe.profiling.replay import replay
from datapipe.profiling.what_if import predict, predictions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.profiling.workload import Workload

_COUNTS: Final = (1, 2, 4, 8, 16, 32)


@final
@dataclass(frozen=True, kw_only=True)
class Answer:
    """A prediction, and in words what was asked; `str` is a line for a person."""

    words: str
    prediction: Prediction

    def __str__(self) -> str:
        return f"{self.words}:{str(self.prediction).removeprefix(str(self.prediction.change)).removeprefix(':')}"


def answers(work: Workload, notes: Mapping[str, Any]) -> tuple[Answer, ...]:
    """All that applies to a run, largest gain first: changes of any loader, and the options of a known one."""
    found = [Answer(words=str(each.change), prediction=each) for each in predictions(work)]
    if notes.get("loader") == TORCH:
        # Its workers run every stage, and it has no threads: their count is what can be set.
        found = [each for each in found if each.prediction.change.kind not in ("threads", "workers")]
        found += [Answer(words=workers(n), prediction=each) for n, each in worker_counts(work, notes)]
    elif notes.get("loader") == DATAPIPE:
        found += [Answer(words=f"{n} threads", prediction=each) for n, each in thread_counts(work)]
        if (n := processes(work)) is not None:
            words = f"the transform in {n} worker processes"
            found.append(Answer(words=words, prediction=in_processes(work, n)))
    return tuple(sorted(found, key=lambda each: each.prediction.step_ns))


def workers(count: int) -> str:
    """A number of worker processes in words."""
    return f"{count} worker process{'es' if count > 1 else ''}"


def worker_counts(work: Workload, notes: Mapping[str, Any]) -> list[tuple[int, Prediction]]:
    """More worker processes of torch's DataLoader, each count predicted; empty where its work was not seen."""
    now = option_of(notes, "num_workers")
    if not isinstance(now, int) or not any(job.work for job in work.jobs):
        return []
    return [(n, with_workers(work, notes, n)) for n in _COUNTS if now < n <= 2 * work.cores]


def with_workers(work: Workload, notes: Mapping[str, Any], count: int) -> Prediction:
    """The step with `count` worker processes of torch's DataLoader, which reads `prefetch_factor` batches for each.

    Without workers the loop's own thread does the work; the change is then asked of the same work with one worker
    that does it alone, measured against the replay of the run as it was.
    """
    now, ahead = option_of(notes, "num_workers"), option_of(notes, "prefetch_factor")
    base = replay(work)
    pools = tuple(max(1, n) for n in work.pools)
    deep = (ahead if isinstance(ahead, int) else 2) * count
    limits = tuple((max(a, deep), max(b, deep)) for a, b in work.ahead)
    apart = dataclasses.replace(work, pools=pools, ahead=limits, helps=frozenset())
    before = now if isinstance(now, int) else max(work.pools, default=1)
    return predict(apart, Change(kind="workers", factor=count / max(1, before)), base)


def crew(work: Workload) -> tuple[int, str | None]:
    """How many threads do the loader's work, and the stage that takes most of it; 0 where the loop does it itself.

    Not the most threads of a pool: those that read the files' footers, once, are often more.
    """
    spent: dict[tuple[int, str], float] = {}
    for job in work.jobs:
        for segment in job.work:
            place = (job.pool, segment.stage)
            spent[place] = spent.get(place, 0.0) + segment.cpu + segment.idle
    per_pool: dict[int, float] = {}
    for (pool, _), ns in spent.items():
        per_pool[pool] = per_pool.get(pool, 0.0) + ns * (work.pools[pool] > 0)
    if not any(per_pool.values()):
        return 0, None
    busiest = max(per_pool, key=lambda pool: per_pool[pool])
    return work.pools[busiest], max((s for p, s in spent if p == busiest), key=lambda stage: spent[busiest, stage])


def thread_counts(work: Workload) -> list[tuple[int, Prediction]]:
    """More threads of datapipe's loader, each count predicted."""
    now, stage = crew(work)
    counts = [n for n in _COUNTS if now < n <= 2 * work.cores] if now else []
    return [(n, predict(work, Change(kind="threads", stage=stage, factor=n / now))) for n in counts]


def processes(work: Workload) -> int | None:
    """How many processes would run datapipe's transform; None where its threads do not wait for each other."""
    now, _ = crew(work)
    return max(now, int(work.cores)) if now and "transform" in work.serial | work.unsure else None


def in_processes(work: Workload, count: int) -> Prediction:
    """The step with the transform of datapipe's loader in `count` processes."""
    return predict(work, Change(kind="workers", stage="transform", factor=count / max(1, crew(work)[0])))
