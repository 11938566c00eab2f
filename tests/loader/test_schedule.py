"""The schedule: ranks share every global batch, and every world size makes the same ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.loader.geometry import Geometry
from datapipe.loader.order import Order
from datapipe.loader.schedule import Schedule


def make(sizes, lanes, window, global_batch, tail, shuffle=True):
    rows = np.array(sizes, np.int64)
    lanes = min(lanes, max(1, int((rows > 0).sum())))
    return Order(
        fingerprint="x",
        seed=7,
        rows=rows,
        geometry=Geometry(lanes=lanes, window=window),
        global_batch=global_batch,
        tail=tail,
        shuffle=shuffle,
    )


def walk(order, rank, world_size, start=0, epoch=1, max_rows=50):
    """Batches of a rank: {number: (rows, how many are real)}; checks what each stretch claims to hold on the way."""
    schedule = Schedule(order.epoch(epoch), rank=rank, world_size=world_size, start=start, max_rows=max_rows)
    held: dict = {}
    batches = {}
    while (stretch := schedule.next()) is not None:
        for window, blocks in stretch.reads:
            assert window not in held, "a window in memory is not read again"
            held[window] = set(blocks.tolist())
        assert set(stretch.blocks.tolist()) <= set().union(*held.values(), set()), "what is needed is in memory"
        for i in range(len(stretch)):
            part = slice(stretch.cuts[i], stretch.cuts[i + 1])
            pairs = zip(stretch.blocks[stretch.slot[part]].tolist(), stretch.row[part].tolist(), strict=True)
            batches[stretch.first + i] = (list(pairs), stretch.real[i])
        for window in stretch.drops:
            del held[window]
    assert not held, "nothing stays in memory after the epoch"
    return batches


SIZES = st.lists(st.one_of(st.integers(0, 40), st.sampled_from([0, 1, 2, 3, 4, 7, 8, 9, 31, 32, 33])), max_size=12)


@settings(max_examples=200, deadline=None)
@given(
    sizes=SIZES.filter(lambda sizes: sum(sizes) > 0),
    lanes=st.integers(1, 8),
    window=st.integers(1, 4),
    world=st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8]),
    batch=st.integers(1, 6),
    tail=st.sampled_from(["drop", "pad", "partial"]),
    shuffle=st.booleans(),
    data=st.data(),
)
def test_every_world_size_makes_the_same_global_batches(sizes, lanes, window, world, batch, tail, shuffle, data):
    """Ranks' shares, joined, are the batch one process makes; every row once; equal steps; from any start."""
    order = make(sizes, lanes, window, world * batch, tail, shuffle)
    alone = walk(order, 0, 1, max_rows=9)
    assert sorted(alone) == list(range(order.steps))
    ranks = [walk(order, rank, world) for rank in range(world)]
    real = []
    for number, (rows, count) in alone.items():
        shares = [rank[number] for rank in ranks]
        assert [row for share, _ in shares for row in share] == rows
        assert sum(n for _, n in shares) == count
        if tail != "partial":
            assert [len(share) for share, _ in shares] == [batch] * world
        else:
            assert max(len(share) for share, _ in shares) - min(len(share) for share, _ in shares) <= 1
        real += rows[:count]
    assert len(set(real)) == len(real)
    assert len(real) == (order.num_rows if tail != "drop" else order.steps * world * batch)
    if order.steps:
        start = data.draw(st.integers(0, order.steps - 1))
        rank = data.draw(st.integers(0, world - 1))
        resumed = walk(order, rank, world, start)
        assert resumed == {number: ranks[rank][number] for number in range(start, order.steps)}


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_ranks_read_whole_lanes(world):
    """Where lanes and batch divide, no two ranks read the same block, and each block is read once."""
    order = make([20] * 32, 8, 2, 16, "drop")
    read: list[int] = []
    for rank in range(world):
        schedule = Schedule(order.epoch(0), rank=rank, world_size=world)
        while (stretch := schedule.next()) is not None:
            read += [block for _, blocks in stretch.reads for block in blocks.tolist()]
    assert sorted(read) == list(range(32))


def test_no_more_windows_are_in_memory_than_lanes_and_one_turning_over():
    order = make([20] * 64, 4, 2, 8, "drop")
    schedule = Schedule(order.epoch(0), rank=0, world_size=1, max_rows=80)
    held: set = set()
    most = 0
    while (stretch := schedule.next()) is not None:
        held |= {window for window, _ in stretch.reads}
        most = max(most, len(held))
        held -= set(stretch.drops)
    assert most <= 5


def test_padding_repeats_the_epochs_start():
    order = make([3, 3], 1, 1, 4, "pad")
    batches = walk(order, 0, 1)
    assert batches[1][1] == 2
    assert batches[1][0][2:] == batches[0][0][:2]
    order = make([2], 1, 1, 7, "pad")
    rows, real = walk(order, 0, 1)[0]
    assert real == 2
    assert sorted(rows) == sorted([(0, 0), (0, 1)] * 3 + rows[6:])
