"""The order is a pure function: each row once, the same for ever, at any size."""

from __future__ import annotations

import hashlib
import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.loader.geometry import Geometry
from datapipe.loader.order import Order
from datapipe.loader.schedule import Schedule

SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=12)


def make(sizes, lanes=1, window=2, seed=0, shuffle=True, global_batch=4, tail="drop", fingerprint="x"):
    rows = np.array(sizes, np.int64)
    held = max(1, int((rows > 0).sum()))
    return Order(
        fingerprint=fingerprint,
        seed=seed,
        rows=rows,
        geometry=Geometry(lanes=min(lanes, held), window=window),
        global_batch=global_batch,
        tail=tail,
        shuffle=shuffle,
    )


def lane_rows(order, epoch, lane):
    found = order.epoch(epoch)
    return pairs(found, lane, 0, int(order.lengths[lane]))


def pairs(epoch, lane, start, end):
    """(block, row) of a lane's rows [start, end)."""
    rows = epoch.units(lane, start, end)
    return list(zip(epoch.blocks[lane][rows.place].tolist(), rows.row.tolist(), strict=True))


def everything(order, epoch=0):
    return [pair for lane in range(order.lanes) if len(order.blocks) for pair in lane_rows(order, epoch, lane)]


@given(SIZES, st.integers(1, 5), st.integers(1, 4), st.integers(0, 3), st.booleans())
def test_every_row_occurs_once(sizes, lanes, window, epoch, shuffle):
    order = make(sizes, lanes, window, shuffle=shuffle)
    wanted = [(block, row) for block, n in enumerate(sizes) for row in range(n)]
    assert sorted(everything(order, epoch)) == wanted


@given(SIZES, st.integers(1, 5))
def test_lanes_take_turns(sizes, lanes):
    """The closed form counts what a plain loop over rounds counts, at every position."""
    order = make(sizes, lanes)
    given_, expected = [0] * order.lanes, [[0] * order.lanes]
    for turn in range(int(order.lengths.max())):
        for lane in range(order.lanes):
            if order.lengths[lane] > turn:
                given_[lane] += 1
                expected.append(list(given_))
    assert order.counts(np.arange(order.num_rows + 1)).tolist() == expected


def test_without_shuffle_rows_come_in_file_order():
    assert everything(make([3, 0, 2], shuffle=False)) == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1)]


def test_seeds_epochs_and_datasets_differ():
    sizes = [50] * 8
    orders = [make(sizes), make(sizes, seed=1), make(sizes, fingerprint="y")]
    sequences = [tuple(everything(order, epoch)) for order in orders for epoch in (0, 1)]
    assert len(set(sequences)) == 6
    assert tuple(everything(make(sizes), 1)) == sequences[1]


def test_rows_mix_within_a_window_and_lanes_keep_to_their_blocks():
    order = make([100] * 16, lanes=4, window=2)
    for lane in range(4):
        rows = lane_rows(order, 0, lane)
        blocks = {block for block, _ in rows}
        assert blocks == set(range(4 * lane, 4 * lane + 4))
        window = order.epoch(0).windows[lane]
        for a, b in zip(window[:-1], window[1:], strict=True):
            inside = rows[a:b]
            assert inside != sorted(inside)
            assert len({block for block, _ in inside}) * 100 == b - a


def test_first_windows_are_staggered():
    """The first batch waits for a block of each lane; then lanes do not all turn over at once."""
    epoch = make([10] * 64, lanes=4, window=8).epoch(0)
    assert [int(windows[1]) for windows in epoch.windows] == [10, 10, 10, 10]
    assert [int(windows[2]) for windows in epoch.windows] == [30, 50, 70, 90]
    epoch = make([10] * 64, lanes=4, window=16).epoch(0)
    assert [windows.tolist() for windows in epoch.windows] == [[0, 160]] * 4
    for window in (1, 2):
        epoch = make([10] * 64, lanes=4, window=window).epoch(0)
        assert [windows.tolist()[:2] for windows in epoch.windows] == [[0, 10]] * 4
        assert all(int(np.diff(windows).max()) <= 10 * window for windows in epoch.windows)


@settings(max_examples=30)
@given(st.integers(0, 4 * 10**9 - 50), st.integers(1, 50))
def test_any_part_of_a_vast_epoch_is_computed_at_once(start, count):
    """Memory and time are those of the rows asked for: here the epoch has 4 billion, in windows of a billion."""
    order = make([10**9] * 4, window=1)
    found = order.epoch(0).units(0, start, start + count)
    assert len(set(zip(found.place.tolist(), found.row.tolist(), strict=True))) == count
    assert ((found.row >= 0) & (found.row < 10**9)).all()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.data())
def test_a_part_is_that_part_of_the_whole(sizes, data):
    order = make(sizes)
    whole = lane_rows(order, 0, 0)
    start = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(start + 1, len(whole)))
    assert pairs(order.epoch(0), 0, start, end) == whole[start:end]


def test_it_is_the_same_for_ever():
    """Pinned: a change of this digest is a change of the state's version."""
    order = make([13, 0, 40, 7, 100, 1], lanes=2, window=2, seed=3, fingerprint="dp1-pinned")
    text = repr((everything(order, 5), order.counts(np.arange(order.num_rows + 1)).tolist()))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "a7f540c75eb77e18"


def test_steps_by_tail():
    for tail, steps in (("drop", 2), ("pad", 3), ("partial", 3)):
        assert make([10], tail=tail).steps == steps
        assert make([8], tail=tail).steps == 2
        assert make([0], tail=tail).steps == 0
    assert make([3]).steps == 0
    assert make([10], tail="pad").batch_positions(2) == (8, 10, 2)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 12), st.integers(1, 4))
def test_blocks_of_one_size_are_found_as_any_are(size, count, last, window):
    """The short cut for equal blocks (and a shorter or longer last one) gives each row once, as the search does."""
    sizes = [size] * count + ([last] if last else [])
    order = make(sizes, window=window)
    assert sorted(everything(order)) == [(block, row) for block, n in enumerate(sizes) for row in range(n)]


def test_an_epochs_order_takes_memory_by_row_groups_not_by_rows():
    """A billion rows in 100,000 row groups: order, epoch and first stretch take 200 bytes a row group at most."""
    rows = np.full(100_000, 10_000, np.int64)
    make(rows[:64], lanes=8)  # what is imported and remembered once
    tracemalloc.start()
    try:
        order = make(rows, lanes=8, window=16, global_batch=256)
        epoch = order.epoch(0)
        stretch = Schedule(epoch, rank=0, world_size=1).next()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert order.steps == 10**9 // 256
    assert stretch is not None
    assert peak < 200 * len(rows)
