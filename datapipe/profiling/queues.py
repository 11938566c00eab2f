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


def queue_strips(work: Precedence, ledger: Ledger, batches: Ints) -> tuple[QueueStrip, ...]:
    """The strips of one run; none where the loader records nothing, or one thread does all.

    Args:
        work: the loader's work and its edges.
        ledger: the steps.
        batches: int64[w], the batch each wait was for (-1: not known).
    """
    if not len(ledger.start):
        return ()
    began, ended = int(ledger.start[0]), int(ledger.end[-1])
    strips = [
        strip
        for taker, lying in _handed_over(work).items()
        if (strip := _strip(taker, "blocks" if taker[1] else "batches", lying, began, ended)) is not None
    ]
    strip = _strip((LOOP, False), "batches", _for_the_loop(work, ledger, batches), began, ended)
    return (*strips, strip) if strip is not None else tuple(strips)


def _handed_over(work: Precedence) -> dict[tuple[str, bool], dict[int, tuple[int, int]]]:
    """For each taking stage (and whether it takes blocks): the maker's span → (made, taken), ns."""
    found: dict[tuple[str, bool], dict[int, tuple[int, int]]] = {}
    for i, start in enumerate(work.start):
        made = work.input_of(i)
        if made < 0 or work.thread[made] == work.thread[i]:
            continue
        lying = found.setdefault((work.stage[i], work.stage[made] in BLOCK_STAGES), {})
        if made not in lying:  # starts rise: the first to take it
            lying[made] = (work.end[made], start)
    return found


def _for_the_loop(work: Precedence, ledger: Ledger, batches: Ints) -> dict[int, tuple[int, int]]:
    found = {}
    for (_, taken, _), batch in zip(ledger.waits.tolist(), batches.tolist(), strict=True):
        made = work.last_of_batch(batch, taken) if batch >= 0 else -1
        if made >= 0 and work.thread[made] != ledger.thread:
            found[made] = (work.end[made], taken)
    return found


def _strip(
    taker: tuple[str, bool], unit: str, lying: dict[int, tuple[int, int]], began: int, ended: int
) -> QueueStrip | None:
    import numpy as np

    if len(lying) < 2 or ended <= began:
        return None
    came, left = np.array(list(lying.values()), dtype=np.int64).T.clip(began, ended)
    when = np.concatenate([came, left])
    order = np.lexsort((np.repeat([0, 1], len(came)), when))  # at one time it comes before it leaves
    when, change = when[order], np.repeat([1, -1], len(came))[order]
    level = np.cumsum(change)
    edges = np.append(np.append(began, when), ended)
    lasted = np.diff(edges)
    at = np.append(0, level)
    # The integral of the level up to each edge, read off at the borders of the cells.
    integral = np.append(0, np.cumsum(at * lasted))
    borders = np.linspace(began, ended, CELLS + 1)
    rising = np.append(True, np.diff(edges) > 0)
    area = np.diff(np.interp(borders, edges[rising], integral[rising]))
    # An item that is taken as it comes never lay there.
    most = int(at[lasted > 0].max(initial=0))
    whole = ended - began
    return QueueStrip(
        taker=taker[0], unit=unit, items=len(lying), mean=float(integral[-1] / whole), most=most,
        empty=float(lasted[at == 0].sum() / whole),
        levels=[round(max(0.0, float(a)), 3) for a in area / (whole / CELLS)],
    )  # fmt: skip
