"""Phases beside the steps that mostly wait for data: an evaluation whose loader is slow, in a run whose steps are not.

What enters: a run and its ledger. What leaves: a sentence for each such phase.
Invariant: the verdict is on the steps; a phase is named beside it only where it takes `LARGE` or more of the run
without start-up and end, and most of it (`_MOSTLY`) lies in waits that were recorded inside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from datapipe.events import DEVICE
from datapipe.profiling.intervals import covered, union
from datapipe.profiling.phases import KINDS
from datapipe.profiling.verdict import ms, spoken

if TYPE_CHECKING:
    from datapipe.profiling.analysis import RawRun
    from datapipe.profiling.ledger import Ledger

LARGE: Final = 0.1
_MOSTLY: Final = 0.5


def loader_note(phase: str) -> str:
    """The name of the note that says which loader a phase read (`Loops`)."""
    return f"{phase} loader"


def waiting_phases(run: RawRun, ledger: Ledger) -> tuple[str, ...]:
    """A sentence for each phase of the loop's own thread that waits for data for a large part of the run."""
    import numpy as np

    said = []
    spans = run.spans[(run.spans["thread"] == ledger.thread) & (run.spans["flags"] & DEVICE == 0)]
    went = run.wall - ledger.run.get("startup", 0) - ledger.run.get("teardown", 0)
    waits = spans[spans["stage"] == (run.stages.index("wait") if "wait" in run.stages else -1)]
    for name in KINDS:
        own = spans[spans["stage"] == (run.stages.index(name) if name in run.stages else -1)]
        if not len(own) or went <= 0:
            continue
        start, end = union(own["start"].astype(np.int64), own["end"].astype(np.int64))
        took = int((end - start).sum())
        waited = int(covered(start, end, union(waits["start"].astype(np.int64), waits["end"].astype(np.int64))).sum())
        if took < LARGE * went or waited < _MOSTLY * took:
            continue
        loader = run.notes.get(loader_note(name))
        named = f" ({loader})" if loader else ""
        said.append(
            f"Beside the steps, {spoken(name)} takes {took / went:.0%} of the run after its start-up ({ms(took)}), and"
            f" {waited / took:.0%} of that waits for its loader{named}."
        )
    return tuple(said)
