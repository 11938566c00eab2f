"""Evaluations and checkpoints of a run, and between or in which steps they fell: for the chart of its steps.

What enters: a run's spans and its ledger. What leaves: `Phase`s in order of time.
Invariant: spans of one kind with no beginning of a step between them are one phase (an evaluation is as many spans as
it has batches); of more than `MOST` of a kind every k-th is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from datapipe.events import DEVICE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from datapipe.profiling.ledger import Ledger

KINDS: Final = ("evaluate", "checkpoint")
MOST: Final = 100


@final
@dataclass(frozen=True, kw_only=True)
class Phase:
    """One of them.

    Attributes:
        name: "evaluate" or "checkpoint".
        step: how many steps had begun.
        start_ns: from the run's start.
        ns: how long it took, less what lay between its spans.
    """

    name: str
    step: int
    start_ns: int
    ns: int


def phases(
    spans: npt.NDArray[np.void],
    stages: Sequence[str],
    ledger: Ledger,
    began: int,
    left_out: Sequence[tuple[int, int, int]] = (),
) -> tuple[Phase, ...]:
    """The phases on the loop's own thread.

    Args:
        spans: structured array of `events.FIELDS`.
        stages: stage names by number.
        ledger: of the run.
        began: ns, when the run began.
        left_out: (ns of its end, ns, steps) of each stretch whose steps are not in the ledger.
    """
    import numpy as np

    found: list[Phase] = []
    mine = spans[(spans["thread"] == ledger.thread) & (spans["flags"] & DEVICE == 0)]
    for name in KINDS:
        own = mine[mine["stage"] == (stages.index(name) if name in stages else -1)]
        own = np.sort(own, order="start")
        if not len(own):
            continue
        begun = np.searchsorted(ledger.start, own["start"], side="right")
        first = np.flatnonzero(np.diff(begun, prepend=-1))
        took = np.add.reduceat(own["end"] - own["start"], first)
        kept = slice(0, len(first), -(-len(first) // MOST))
        found += [
            Phase(
                name=name, step=step + sum(n for end, _, n in left_out if end <= start), start_ns=start - began, ns=ns
            )
            for step, start, ns in zip(
                begun[first][kept].tolist(), own["start"][first][kept].tolist(), took[kept].tolist(), strict=True
            )
        ]
    return tuple(sorted(found, key=lambda phase: phase.start_ns))
