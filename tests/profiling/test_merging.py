"""Profiles of a job's ranks merged: the late rank, its cause, who waits for it, and what is not known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ProfileError
from datapipe.profiling import load_profile, render
from datapipe.profiling.analysis import summarise
from datapipe.profiling.merging import await_ranks, has_ranks, load_run, merge_ranks, side_by_side
from datapipe.profiling.profile_file import save_profile
from datapipe.profiling.ranks import Rank
from datapipe.profiling.report import report_html

MS = 1e6


@pytest.fixture(scope="module")
def job(new_spans):
    """A function: float[ranks, steps] of wait, forward (ms), met in backward or forward; a summary per rank."""

    def make(wait, forward, meet="backward", *, base=4.0, started=0):
        wait, forward = np.asarray(wait, float), np.asarray(forward, float)
        arrived = wait + forward if meet == "backward" else wait
        idle = (arrived.max(axis=0) - arrived) if meet else np.zeros_like(arrived)
        summaries = {}
        for r in range(len(wait)):
            spans, t = new_spans(), 0
            for i in range(wait.shape[1]):
                parts = {
                    "wait": wait[r, i],
                    "forward": forward[r, i] + (idle[r, i] if meet == "forward" else 0),
                    "backward": base + (idle[r, i] if meet == "backward" else 0),
                }
                begin = t
                for name, length in parts.items():
                    spans.add(name, t, t + round(length * MS), item=i if name == "wait" else -1)
                    t += round(length * MS)
                spans.add("step", begin, t, item=i)
            rank = Rank(rank=r, local_rank=r, local_world_size=len(wait), world_size=len(wait), job="j/0")
            run = spans.run(ended=t, rank=rank)
            summaries[r] = summarise(dataclasses.replace(run, started_unix_ns=started))
        return summaries

    return make


@settings(max_examples=40, deadline=None)
@given(ranks=st.integers(2, 5), steps=st.integers(5, 30), seed=st.integers(0, 2**31))
def test_waiting_is_what_the_last_rank_costs(job, ranks, steps, seed):
    """For any own times: a rank's waiting is the mean of the last's own time minus its own, and pairs sum to it."""
    random = np.random.default_rng(seed)
    wait, forward = random.uniform(0.5, 9, (2, ranks, steps))
    merged = side_by_side(job(wait, forward), ranks)
    own = (wait + forward)[:, 1:]  # the first step is not steady
    idle = own.max(axis=0) - own
    assert merged.synchronous
    assert merged.steps == steps - 1
    for row in merged.rows:
        assert row.waiting == pytest.approx(idle[row.rank].mean() * MS, rel=1e-4, abs=100)
        assert sum(w.mean for w in merged.waits if w.rank == row.rank) == pytest.approx(
            row.waiting, abs=0.01 * row.step
        )
    assert sum(row.last for row in merged.rows) == pytest.approx(1.0)
    assert merged.skew[0] == pytest.approx((own.max(axis=0) - own.min(axis=0)).mean() * MS, rel=1e-4)


@pytest.mark.parametrize(
    ("slow", "part", "meet", "words"),
    [(1, "wait", "backward", "it waits for"), (0, "wait", "forward", "it waits for"),
     (2, "forward", "backward", "slow in the forward pass")],
)  # fmt: skip
def test_the_late_rank_is_named_with_its_cause(job, slow, part, meet, words):
    """Slow data or a slow forward on one rank, whichever rank, met in backward or in a forward that broadcasts."""
    wait, forward = np.full((3, 20), 1.0), np.full((3, 20), 2.0)
    (wait if part == "wait" else forward)[slow] += 5
    merged = side_by_side(job(wait, forward, meet), 3)
    assert merged.stragglers == (slow,)
    assert merged.rows[slow].late == pytest.approx(5 * MS)
    assert words in merged.rows[slow].slow_part
    assert merged.sentence.startswith(f"Rank {slow} is late by 5.00 ms a step")
    assert {(w.rank, w.waits_for) for w in merged.waits} == {(r, slow) for r in range(3) if r != slow}
    assert meet in merged.meetings


def test_ranks_that_never_meet_are_not_said_to_wait(job):
    """Without a meeting the ranks' steps differ, and who waits for whom is not known."""
    wait = np.stack([np.full(20, 1.0), np.full(20, 9.0)])
    merged = side_by_side(job(wait, np.full((2, 20), 2.0), meet=None), 2)
    assert not merged.synchronous
    assert merged.waits == ()
    assert merged.meetings == ()
    assert merged.stragglers == (1,)
    assert any("not known" in line for line in merged.evidence)


def test_only_steps_that_all_ranks_have_are_compared(job):
    """A rank with fewer steps, and one without a profile: the common ones count, and who is missing is said."""
    summaries = job(np.full((2, 20), 1.0), np.full((2, 20), 2.0))
    summaries[1] = job(np.full((2, 12), 1.0), np.full((2, 12), 2.0))[1]
    merged = side_by_side(summaries, 4)
    assert merged.steps == 11
    assert merged.missing == (2, 3)
    assert any("rank 2, 3" in line for line in merged.evidence)
    assert merged.stragglers == ()
    assert "keep pace" in merged.sentence
    none = side_by_side({0: summaries[0], 1: job([[1.0]], [[1.0]])[0]}, 2)
    assert (none.steps, none.rows) == (0, ())


def write(summaries, folder):
    for r, summary in summaries.items():
        save_profile(summary, folder / f"rank-{r}")


def test_a_folder_of_ranks_is_merged_and_read_back(job, tmp_path):
    """Written, merged, saved and read again: the same; it is the late rank's, and the ranks' verdict comes first."""
    summaries = job(np.full((2, 20), [[1.0], [6.0]]), np.full((2, 20), 2.0))
    write(summaries, tmp_path)
    assert has_ranks(tmp_path)
    merged = load_run(tmp_path)
    assert merged == await_ranks(tmp_path, 2, patience=0.0) == merge_ranks(tmp_path)
    assert merged.series == summaries[1].series
    assert merged.ranks.stragglers == (1,)
    save_profile(merged, tmp_path)
    assert load_profile(tmp_path) == merged == load_run(tmp_path)
    from rich.console import Console

    with (tmp_path / "shown").open("w") as file:
        Console(file=file, width=100).print(render(merged))
    shown = (tmp_path / "shown").read_text()
    assert shown.startswith("Rank 1 is late")
    assert shown.count("Rank 1 is late") == 1
    assert "Waiting for it: rank 0 (5.00 ms a step)." in shown
    assert "Rank 1: Input-bound" in shown
    assert "Rank 0: " not in shown
    assert merged.verdict.sentence == " ".join(shown.split("  ")[0].split())
    page = report_html(merged)
    assert page.index("Rank 1 is late") < page.index('id="h-ranks"') < page.index('id="h-step"')
    assert page.count("Rank 1 is late") == 1


def test_an_earlier_job_and_a_later_run_alone_are_told_apart(job, tmp_path):
    """Ranks left by a larger, earlier job are not taken; a run alone that came after the job goes before it."""
    write(job(np.full((4, 20), 1.0), np.full((4, 20), 2.0), started=10), tmp_path)
    write(job(np.full((2, 20), 1.0), np.full((2, 20), 2.0), started=20), tmp_path)
    assert [row.rank for row in merge_ranks(tmp_path).ranks.rows] == [0, 1]
    alone = job(np.full((1, 20), 1.0), np.full((1, 20), 2.0), started=30)[0]
    save_profile(dataclasses.replace(alone, rank=None), tmp_path)
    assert load_run(tmp_path).ranks is None
    save_profile(dataclasses.replace(alone, rank=None, started_unix_ns=5), tmp_path)
    assert load_run(tmp_path).ranks is not None


def test_no_ranks_is_said(tmp_path, job):
    """A folder without ranks' profiles is no job; a damaged one is named."""
    with pytest.raises(ProfileError, match="no ranks"):
        merge_ranks(tmp_path)
    with pytest.raises(ProfileError, match="no profile"):
        load_run(tmp_path)
    write(job(np.full((2, 5), 1.0), np.full((2, 5), 2.0)), tmp_path)
    (tmp_path / "rank-1" / "profile.json").write_text("{")
    with pytest.raises(ProfileError, match="rank-1"):
        merge_ranks(tmp_path)
