"""Which rank this is, from the launcher's variables; the ranks' table adds up."""

from __future__ import annotations

import pytest

from datapipe.profiling.ranks import Rank, RankRow, Ranks, this_rank
from datapipe.profiling.ranks_terminal import rank_items, shown_columns


def test_what_torchrun_says():
    """A rank of a job, with its place on its machine and the start it belongs to."""
    environ = {
        "RANK": "5", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8",
        "TORCHELASTIC_RUN_ID": "a", "TORCHELASTIC_RESTART_COUNT": "2",
    }  # fmt: skip
    rank = this_rank(environ)
    assert rank == Rank(rank=5, local_rank=1, local_world_size=4, world_size=8, job="a/2")
    assert rank.folder == "rank-5"


@pytest.mark.parametrize(
    "environ",
    [{}, {"RANK": "0"}, {"RANK": "0", "WORLD_SIZE": "1"}, {"RANK": "x", "WORLD_SIZE": "2"},
     {"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "-1", "WORLD_SIZE": "2"}],
)  # fmt: skip
def test_alone_or_nonsense_is_no_rank(environ):
    """A world of one, or variables that make no sense, never stop a run: it is profiled as one that is alone."""
    assert this_rank(environ) is None


@pytest.fixture
def ranks():
    rows = [
        RankRow(
            rank=r, step=100.0, p50=1.0, p95=1.0, waits={"dataset": 2.0 * r, "queue": 1.0}, stages={},
            parts={"wait": 2.0 * r + 1, "forward": 10.0, "backward": 80.0 - 2 * r, "optimizer": 2.0, "other": 7.0},
            own=1.0, late=float(r), last=0.0, waiting=0.0,
        )
        for r in range(40)
    ]  # fmt: skip
    return Ranks(
        world_size=40, steps=9, rows=tuple(rows), synchronous=True, skew=(0, 0), stragglers=(39,), waits=(),
        sentence="Rank 39 is late.", evidence=("one", "two"),
    )  # fmt: skip


def test_the_table_adds_up_to_each_ranks_step(ranks):
    """Ranks × stages: the wait by stage, the other parts as they are; every row sums to its step, the shown one too."""
    names, rows = ranks.table()
    assert names == ("wait: dataset", "wait: queue", "forward", "backward", "optimizer", "other")
    assert [len(row) for row in rows] == [6] * 40
    assert all(sum(row) == pytest.approx(100.0) for row in rows)
    shown, cells = shown_columns(ranks)
    assert {"wait: dataset", "backward", "rest"} <= set(shown)
    assert all(sum(row) == pytest.approx(100.0) for row in cells)


def test_a_terminal_shows_the_latest_of_many(ranks):
    """What the verdict rests on first; of forty ranks the sixteen latest, within 80 columns."""
    from rich.console import Console

    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115  (nobody looks)
    for item in rank_items(ranks, str):
        console.print(item)
    lines = console.export_text().splitlines()
    assert lines[:2] == ["  one", "  two"]
    listed = [int(line.split()[0]) for line in lines if line.split() and line.split()[0].isdecimal()]
    assert listed == list(range(39, 23, -1))
    assert not any("…" in line for line in lines)
