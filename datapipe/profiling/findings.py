"""What one pass over spans finds, of a whole run or of a stretch of one: the ledger, the waits, the path, the stages.

What enters: a `RawRun`. What leaves: `Findings`, from which `analysis` makes the summary.
Invariant: nothing here reads a clock or the machine; what a stretch's findings count, a run's findings are the sums of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from datapipe.events import DEVICE
from datapipe.profiling.critical_path import critical_path
from datapipe.profiling.intervals import covered, union
from datapipe.profiling.ledger import build_ledger
from datapipe.profiling.lock_contention import lost_together
from datapipe.profiling.lock_waits import holds, lock_held, loop_waits
from datapipe.profiling.precedence import Precedence, loader_spans, match_batches
from datapipe.profiling.queues import handed_over
from datapipe.profiling.waits import split_waits

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.analysis import RawRun
    from datapipe.profiling.ledger import Ledger
    from datapipe.profiling.lock_waits import LoopWaits
    from datapipe.profiling.stages import StageTally
    from datapipe.profiling.waits import WaitSplit

    Ints = npt.NDArray[np.int64]


@final
@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found.

    Attributes:
        ledger: the steps. split: their waits by stage. locked: their waits for the interpreter's lock.
        path: critical path, ns per stage.
        device: stage → ns of each step that the device was busy with it, int64[n]; last "busy"; empty without a device.
        lying: what was handed over (`queues.handed_over`).
        together: ns that the holders of the lock waited for one another.
        loader_seen: whether the loader recorded anything.
        delivered: the last batch that was taken, -1 where none is known.
    """

    ledger: Ledger
    split: WaitSplit
    locked: LoopWaits
    path: Mapping[str, int]
    device: Mapping[str, Ints]
    lying: Mapping[tuple[str, bool], tuple[Ints, Ints]]
    together: Mapping[str, float]
    loader_seen: bool
    delivered: int = -1


@final
@dataclass(frozen=True, kw_only=True)
class Whole:
    """What was found of a whole run, with what its summary reads off the spans themselves.

    Attributes:
        found: of all steps.
        tally: of the stages.
        spans: those of evaluations, of checkpoints and of the waits in them, and the reads; a short run's are all here.
        count: spans recorded. recorded: thread → spans.
        left_out: (ns of its end, ns, steps) of each stretch that was not looked at.
        walked: steps whose critical path was walked; None: all.
    """

    found: Findings
    tally: StageTally
    spans: npt.NDArray[np.void]
    count: int
    recorded: Mapping[int, int]
    left_out: tuple[tuple[int, int, int], ...] = ()
    walked: int | None = None


def find(
    run: RawRun,
    *,
    thread: int | None = None,
    follows: int | None = None,
    delivered: int = -1,
    walked: int | None = None,
) -> Findings:
    """What the spans of a run tell.

    Args:
        run: the spans.
        thread: the loop's, for a stretch of a run.
        follows: the number of the step before the stretch (`build_ledger`).
        delivered: the last batch that was taken before the stretch, -1 where none is known.
        walked: of how many steps at the end of an epoch the critical path is walked; None: all.
    """
    spans, stages = run.spans, run.stages
    ledger = build_ledger(
        spans, stages, began=run.began, ended=run.ended, wall=run.wall, thread=thread, follows=follows
    )
    mask = loader_spans(spans, stages, ledger)
    work = Precedence(spans[mask], stages)
    batches = match_batches(spans, stages, ledger, delivered=delivered)
    holding = lock_held(run, ledger, mask)
    split = split_waits(ledger, work, batches, holds(run, holding))
    locked = loop_waits(run, ledger, mask, holding)
    return Findings(
        ledger=ledger, split=split, locked=locked,
        path=critical_path(ledger, work, batches, split, locked, most=walked),
        device=_device(run, ledger),
        lying=handed_over(work, ledger, batches),
        together=lost_together(run, ledger, holding),
        loader_seen=bool(mask.any()),
        delivered=int(batches[-1]) if len(batches) else -1,
    )  # fmt: skip


def _device(run: RawRun, ledger: Ledger) -> dict[str, Ints]:
    """The steps as the device ran them: each stage, and "busy" for their union."""
    import numpy as np

    spans = run.spans[run.spans["flags"] & DEVICE != 0]
    if not len(spans):
        return {}
    stages = [(run.stages[i], spans[spans["stage"] == i]) for i in np.unique(spans["stage"]).tolist()]
    return {
        name: covered(ledger.start, ledger.end, union(mine["start"], mine["end"]))
        for name, mine in [*stages, ("busy", spans)]
    }
