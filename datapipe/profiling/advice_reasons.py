"""Why no fix of a loader gains anything: said where a run waits for its loader and is advised nothing.

What enters: a run, its work, the fixes that were predicted. What leaves: sentences.
Invariant: a reason is read off the run or off a prediction, never supposed; a fix that was left out for its interval
alone is told with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datapipe.profiling.advice import LEAST
from datapipe.profiling.cpu_use import FULL, cpu_use
from datapipe.profiling.ledger import build_ledger
from datapipe.profiling.loader_facts import option_of
from datapipe.profiling.verdict import MODERATE, ms, spoken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datapipe.profiling.advice import Fix
    from datapipe.profiling.analysis import RawRun
    from datapipe.profiling.ledger import Ledger
    from datapipe.profiling.workload import Workload

_MOST_A_CORE: Final = 2
"""Worker processes a core that are tried (`loader_changes`)."""
_BLIND: Final = 0.5
"""Share of the wait for work that was not recorded, from which that is why nothing is known to help."""


def nothing_gains(run: RawRun, work: Workload, found: Sequence[Fix]) -> str:
    """That nothing is advised, and why.

    Args:
        run: the spans, and what was watched.
        work: of the run.
        found: all fixes that were predicted, those too small or too doubtful for advice too.
    """
    ledger = build_ledger(run.spans, run.stages, began=run.began, ended=run.ended, wall=run.wall)
    said = f"Nothing about the loader would gain {LEAST:.0%} of the step or more."
    if not len(ledger.start):
        return said
    waits = float(ledger.part("wait")[ledger.steady].mean())
    step = float((ledger.end - ledger.start)[ledger.steady].mean())
    if waits < MODERATE * step:
        return f"{said} Only {waits / step:.1%} of the step waits for it."
    doubtful = max((fix for fix in found if fix.gain >= LEAST), key=lambda fix: fix.rank, default=None)
    reasons = _cores(run, work, ledger)
    if doubtful is not None:
        said = (
            f"Nothing about the loader would surely gain {LEAST:.0%} of the step: “{doubtful.title}” may save"
            f" {doubtful.gain:.0%}, but its 80% interval ({ms(doubtful.low)} to {ms(doubtful.high)}) reaches the"
            f" {ms(doubtful.recorded_ns)} of now: record a longer run, or on a quieter machine."
        )
    else:
        reasons = reasons or _work(run, work, waits)
    return " ".join((said, *reasons))


def _cores(run: RawRun, work: Workload, ledger: Ledger) -> list[str]:
    """Who has the cores that more workers would need."""
    import numpy as np

    first, last = ledger.start[ledger.steady][0], ledger.end[ledger.steady][-1]
    inside = (run.spans["start"] >= first) & (run.spans["end"] <= last)
    used = min(work.cores, float(run.spans["cpu"][inside].astype(np.int64).sum()) / max(1, int(last - first)))
    if used >= FULL * work.cores:
        return [f"The run keeps {used:.1f} of its {work.cores:.0f} cores computing: more workers would share them."]
    use = cpu_use(() if run.watched is None else run.watched.counters, usable=work.cores)
    if use is not None and use.others is not None and used + use.others >= FULL * work.cores:
        said = f"Of {work.cores:.0f} cores the run has {used:.1f} and other processes {use.others:.1f}"
        return [f"{said}: more workers would share what is left."]
    return []


def _work(run: RawRun, work: Workload, waits: float) -> list[str]:
    """What the wait is for, where cores are free."""
    blind = sum(take.blind for take in work.takes) / max(1, len(work.takes)) * work.takes_per_step
    if not work.jobs or blind >= _BLIND * waits:
        return ["The loader's work was not recorded, so that no change to it can be replayed."]
    if work.serial:
        names = " and ".join(spoken(name) for name in sorted(work.serial))
        return [f"Python's lock is held by {names}: more threads take turns."]
    workers = option_of(run.notes, "num_workers")
    if isinstance(workers, int) and workers >= _MOST_A_CORE * work.cores:
        many = f"{workers} worker processes for {work.cores:.0f} cores"
        return [f"It has {many}; more than {_MOST_A_CORE} a core are not tried."]
    spent: dict[str, float] = {}
    for job in work.jobs:
        for segment in job.work:
            spent[segment.stage] = spent.get(segment.stage, 0.0) + segment.cpu + segment.idle
    most = max(spent, key=lambda name: spent[name], default="")
    if not most:
        return []
    each = spent[most] / max(1, len(work.takes)) * work.takes_per_step
    return [f"The loader does {ms(each)} of work a step in {spoken(most)}, which its options spread and make no less."]
