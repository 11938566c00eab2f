"""A job's verdict and fixes: those of the rank that the others wait for, and no more than its being late costs.

What enters: the ranks side by side, and what each rank's own profile says. What leaves: the `Verdict` and the `Advice`
of the merged profile, which say whose they are.
Invariant: a fix is never promised a step that is shorter than another rank's work with the same fix: every rank runs
the same script, so an option that is set is set for all, and a rank for which it was not predicted stays as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from datapipe.profiling.advice import LEAST, Advice
from datapipe.profiling.summary import LATE_RANK, Verdict
from datapipe.profiling.verdict import ms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datapipe.profiling.advice import Fix
    from datapipe.profiling.ranks import Ranks
    from datapipe.profiling.summary import Summary

_NAMED: Final = 3
"""Waits that the verdict names; the evidence has more."""


def job_verdict(own: Verdict, ranks: Ranks, rank: int) -> Verdict:
    """Who is late, in what, and who waits for it; where none is late, that, and what bounds one of them.

    Args:
        own: the verdict of the rank that is shown.
        ranks: the job.
        rank: its number.
    """
    evidence = (*ranks.evidence, *own.evidence)
    if not ranks.stragglers:
        return replace(own, sentence=f"{ranks.sentence} Rank {rank}: {own.sentence}", evidence=evidence)
    waiting = [wait for wait in ranks.waits if wait.waits_for == rank]
    said = ", ".join(f"rank {wait.rank} ({ms(wait.mean)} a step)" for wait in waiting[:_NAMED])
    more = f", {len(waiting) - _NAMED} more" if len(waiting) > _NAMED else ""
    waits = f" Waiting for it: {said}{more}." if waiting else ""
    return replace(
        own, kind=LATE_RANK, sentence=ranks.sentence + waits, evidence=(f"Rank {rank}: {own.sentence}", *evidence)
    )


def job_advice(summaries: Mapping[int, Summary], ranks: Ranks, rank: int) -> Advice | None:
    """The fixes of one rank, each gain ended where another rank would be the latest; None where it has no advice.

    Args:
        summaries: rank → its profile.
        ranks: the same side by side.
        rank: the one that the others wait for.
    """
    advice = summaries[rank].advice
    if advice is None:
        return None
    others = [row for row in ranks.rows if row.rank != rank]
    fixes = []
    for fix in advice.fixes:
        least, whom = 0.0, -1
        for row in others:
            took = row.step - row.waiting - _saved(fix, summaries[row.rank].advice)
            if took > least:
                least, whom = took, row.rank
        fixes.append(fix if fix.step_ns >= least else _bounded(fix, least, whom))
    worth = sorted((f for f in fixes if f.gain >= LEAST and f.high < f.recorded_ns), key=lambda f: -f.rank)
    sentence = advice.sentence
    if advice.fixes and not worth:
        sentence = f"No fix of rank {rank} would gain {LEAST:.0%} of the job's step or more: other ranks are as late."
    return replace(advice, fixes=tuple(worth), sentence=sentence, rank=rank, waited_for=rank in ranks.stragglers)


def _saved(fix: Fix, other: Advice | None) -> float:
    """What the same fix saves another rank, ns a step: told apart by the options it sets, or by its words."""
    same = [
        each.recorded_ns - each.step_ns
        for each in (() if other is None else other.fixes)
        if (each.options.keys() == fix.options.keys() if fix.options else each.title == fix.title)
    ]
    return max(same, default=0.0)


def _bounded(fix: Fix, least: float, whom: int) -> Fix:
    return replace(
        fix, step_ns=least, low=max(fix.low, least), high=max(fix.high, least),
        gain=1 - least / fix.recorded_ns if fix.recorded_ns else 0.0,
        reason=f"{fix.reason}; then rank {whom} is the latest, with {ms(least)} a step",
    )  # fmt: skip
