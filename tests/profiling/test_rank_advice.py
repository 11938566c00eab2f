"""Fixes of a job: those of the rank that the others wait for, as far as another rank lets them help."""

from __future__ import annotations

import dataclasses

import pytest

from datapipe.profiling.advice import Advice, Fix
from datapipe.profiling.analysis import summarise
from datapipe.profiling.rank_advice import job_advice
from datapipe.profiling.ranks import RankRow, Ranks

MS = 1e6


def workers(count, recorded, step):
    return Fix(
        title=f"{count} worker processes", do="", cost="", effort=0, gain=1 - step / recorded,
        recorded_ns=recorded * MS, step_ns=step * MS, low=step * 0.9 * MS, high=step * 1.1 * MS, extrapolated=False,
        reason="", options={"num_workers": count},
    )  # fmt: skip


@pytest.fixture
def advised(steady_run):
    """A function: (fix, ms that it waits for others) per rank, steps of 30 ms; the job's advice, of the last rank."""
    one = summarise(steady_run(n=12))

    def make(*ranks, late=True):
        rows = tuple(
            RankRow(rank=r, step=30 * MS, p50=0, p95=0, parts={}, waits={}, stages={}, own=0, late=0, last=0,
                    waiting=waiting * MS)
            for r, (_, waiting) in enumerate(ranks)
        )  # fmt: skip
        summaries = {
            r: dataclasses.replace(one, advice=Advice(fixes=fixes, sentence="fixes"))
            for r, (fixes, _) in enumerate(ranks)
        }
        last = len(ranks) - 1
        job = Ranks(
            world_size=len(ranks), steps=10, rows=rows, synchronous=True, skew=(0, 0), waits=(), sentence="",
            stragglers=(last,) if late else (),
        )  # fmt: skip
        return job_advice(summaries, job, last)

    return make


def test_the_fixes_are_the_late_ranks_and_end_at_the_next_latest(advised):
    """Rank 0, which waits 20 of 30 ms, has a fix that nobody needs; rank 1's takes the step to 7 ms, rank 0's to 10."""
    advice = advised(((workers(1, 30, 25),), 20), ((workers(4, 30, 7),), 0))
    assert [fix.title for fix in advice.fixes] == ["4 worker processes"]
    assert advice.whose.startswith("Fixes of rank 1, for which the others wait")
    assert advice.fixes[0].step_ns == pytest.approx(7 * MS)  # rank 0 has workers then too: 10 - 5 ms
    bounded = advised(((), 20), ((workers(4, 30, 7),), 0)).fixes[0]
    assert (bounded.step_ns, bounded.gain) == (pytest.approx(10 * MS), pytest.approx(2 / 3))
    assert bounded.low <= bounded.step_ns <= bounded.high
    assert "then rank 0 is the latest" in bounded.reason


def test_where_another_rank_is_as_late_nothing_is_promised(advised):
    """A fix that one of two equal ranks lacks gains nothing, and that is said; one that both have gains for both."""
    none = advised(((), 0), ((workers(4, 30, 7),), 0), late=False)
    assert none.fixes == ()
    assert "other ranks are as late" in none.sentence
    both = advised(((workers(2, 30, 12),), 0), ((workers(4, 30, 7),), 0), late=False)
    assert both.fixes[0].step_ns == pytest.approx(12 * MS)
