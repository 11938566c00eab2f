"""What lay ready between the stages: how many items waited to be taken, over the run.

What enters: the loader's work with its edges, the ledger's waits. What leaves: one strip per hand-over, in the order of
the pipeline; the last is what lay ready for the loop.
Invariant: a level is never negative, and its mean is the items' waiting time over the run's length (Little's law:
L = λW; Little, Operations Research, 1961).

An item waits from the end of the work that made it until work on another thread takes it; what the same thread goes on
with was never in a queue. A block that many batches are made of waits for the first of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.profiling.precedence import BLOCK_STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.ledger import Ledger
    from datapipe.profiling.precedence import Precedence

    Ints = npt.NDArray[np.int64]

CELLS: Final = 240
"""Stretches of time that a strip has: as many as a page has room for."""
LOOP: Final = "step"
"""The taker of what lies ready for the loop."""


@final
@dataclass(frozen=True, kw_only=True)
class QueueStrip:
    """One hand-over over the run.

    Attributes:
        taker: the stage that takes the items; "step": the loop.
        unit: "blocks" or "batches".
        items: how many were handed over.
        mean: items that lay there, averaged over time.
        most: items that lay there at once.
        empty: share of the time in which nothing lay there, 0 to 1.
        levels: the mean of each of `CELLS` stretches of equal length, from the first step to the last.
    """

    taker: str
    unit: str
    items: int
    mean: float
    most: int
    empty: float
    levels: list[float]


def queue_strips(ledger: Ledger, lying: Mapping[tuple[str, bool], tuple[Ints, Ints]]) -> tuple[QueueStrip, ...]:
    """The strips of one run; none where the loader records nothing, or one thread does all.

    Args:
        ledger: the steps.
        lying: what was handed over (`handed_over`).
    """
    if not len(ledger.start):
        return ()
    began, ended = int(ledger.start[0]), int(ledger.end[-1])
    strips = [_strip(taker, *pairs, began, ended) for taker, pairs in lying.items()]
    return tuple(strip for strip in strips if strip is not None)


def handed_over(work: Precedence, ledger: Ledger, batches: Ints) -> dict[tuple[str, bool], tuple[Ints, Ints]]:
    """For each taking stage (and whether it takes blocks) when items were made and taken, ns; last the loop.

    Args:
        work: the loader's work and its edges.
        ledger: the steps.
        batches: int64[w], the batch each wait was for (-1: not known).
    """
    import numpy as np

    made = work.inputs()
    crosses = np.flatnonzero((made >= 0) & (work.threads[made] != work.threads)) if len(made) else made
    source = made[crosses]
    block = np.isin(work.numbers[source], [i for i, name in enumerate(work.stages) if name in BLOCK_STAGES])
    kind = work.numbers[crosses] * 2 + block
    found: dict[tuple[str, bool], tuple[Ints, Ints]] = {}
    kinds, first = np.unique(kind, return_index=True)
    for each in kinds[np.argsort(first)].tolist():
        mine = np.flatnonzero(kind == each)
        makers, earliest = np.unique(source[mine], return_index=True)  # starts rise: the first to take it
        found[work.stages[each // 2], bool(each % 2)] = (work.ends[makers], work.starts[crosses[mine[earliest]]])
    taken = ledger.waits[:, 1]
    last = work.last_of_batches(batches, taken)
    known = np.flatnonzero(last >= 0)
    known = known[work.threads[last[known]] != ledger.thread]
    makers, latest = np.unique(last[known][::-1], return_index=True)
    found[LOOP, False] = (work.ends[makers], taken[known][::-1][latest])
    return found


def _strip(taker: tuple[str, bool], came: Ints, left: Ints, began: int, ended: int) -> QueueStrip | None:
    import numpy as np

    if len(came) < 2 or ended <= began:
        return None
    when = np.concatenate([came, left])
    when.clip(began, ended, out=when)
    leaves = np.repeat(np.array([0, 1], dtype=np.int8), len(came))
    order = np.lexsort((leaves, when))  # at one time it comes before it leaves
    edges = np.concatenate([[began], when[order], [ended]])
    at = np.zeros(len(edges) - 1, dtype=np.int32)
    np.cumsum(1 - 2 * leaves[order], out=at[1:])
    del when, order, leaves  # of a million items each is 16 MB
    lasted = np.diff(edges)
    # The integral of the level up to each edge, read off at the borders of the cells: from the edges on both sides.
    integral = np.zeros(len(edges), dtype=np.int64)
    np.cumsum(at * lasted, out=integral[1:])
    borders = np.linspace(began, ended, CELLS + 1)
    after = np.minimum(np.searchsorted(edges, borders), len(edges) - 1)
    before = np.searchsorted(edges, edges[np.maximum(after - 1, 0)])
    beside = np.unique(np.concatenate([before, after]))
    area = np.diff(np.interp(borders, edges[beside], integral[beside]))
    # An item that is taken as it comes never lay there.
    most = int(at[lasted > 0].max(initial=0))
    whole = ended - began
    return QueueStrip(
        taker=taker[0], unit="blocks" if taker[1] else "batches", items=len(came),
        mean=float(integral[-1] / whole), most=most, empty=float(lasted[at == 0].sum() / whole),
        levels=[round(max(0.0, float(a)), 3) for a in area / (whole / CELLS)],
    )  # fmt: skip
