from __future__ import annotations

import dataclasses

import pytest

from datapipe.profiling.rank_chart import MOST_ROWS, heat_map
from datapipe.profiling.ranks import RankRow, Ranks

MS = 1e6


def job(*waits):
    """A job whose ranks wait so long (ms) for data and then compute 10 ms."""
    rows = tuple(
        RankRow(
            rank=i, step=(wait + 10) * MS, p50=(wait + 10) * MS, p95=(wait + 10) * MS,
            parts={"wait": wait * MS, "forward": 10 * MS}, waits={"fetch": wait * MS}, stages={}, own=wait * MS,
            late=0.0, last=0.0, waiting=0.0,
        )
        for i, wait in enumerate(waits)
    )  # fmt: skip
    return Ranks(
        world_size=len(rows), steps=100, rows=rows, synchronous=False, skew=(0.0, 0.0), stragglers=(len(rows) - 1,),
        waits=(), sentence="said", evidence=("so",),
    )  # fmt: skip


def test_a_column_all_share_has_no_shade_and_a_late_rank_does():
    """The compute is 10 ms everywhere: no shade. Who waits longer is darker; cells of a row sum to its step."""
    heat = heat_map(job(1, 1.5, 9))
    columns = dict(zip(heat.names, zip(*(cells for _, cells in heat.rows), strict=True), strict=True))
    assert [shade for _, shade in columns["forward"]] == [0, 0, 0]
    shades = [shade for _, shade in columns["wait: fetch"]]
    assert shades[0] == 0
    assert 0 < shades[1] < shades[2] == 4
    for _, cells in heat.rows:
        assert sum(value for value, _ in cells[:-1]) == pytest.approx(cells[-1][0])
    assert [rank for rank, _ in heat.rows] == ["0", "1", "2 (late)"]
    assert heat.lines == ("said", "so")


def test_of_a_large_job_the_latest_ranks_are_shown():
    """At most `MOST_ROWS`, in order of rank, shaded against the least of all; the rest is counted."""
    ranks = job(*[1.0] * 500)
    late = tuple(dataclasses.replace(row, late=float(row.rank % 7)) for row in ranks.rows)
    heat = heat_map(dataclasses.replace(ranks, rows=late))
    assert len(heat.rows) == MOST_ROWS
    numbers = [int(rank.split()[0]) for rank, _ in heat.rows]
    assert numbers == sorted(numbers)
    assert min(number % 7 for number in numbers) >= 5
    assert "372 ranks" in heat.lines[-1]


def test_a_run_that_was_alone_has_none():
    assert heat_map(None) is None
