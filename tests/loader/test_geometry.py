"""Geometry: chosen from the dataset alone, lanes balanced."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.loader.geometry import LANE_BYTES, WINDOW_BYTES, Geometry, choose_geometry, cut_lanes


def choose(blocks, nbytes, **options):
    return choose_geometry(np.full(blocks, 100), np.full(blocks, nbytes), **{"shuffle": True, **options})


@pytest.mark.parametrize(("blocks", "lanes"), [(1, 1), (7, 1), (8, 2), (16, 4), (31, 4), (32, 8), (10_000, 8)])
def test_lanes_by_default_are_a_power_of_two_with_four_blocks_each(blocks, lanes):
    assert choose(blocks, 1000).lanes == lanes


@pytest.mark.parametrize("nbytes", [1, 1 << 16, 8 << 20, 100 << 20, 4 << 30])
def test_windows_by_default_stay_within_their_bytes(nbytes):
    found = choose(1000, nbytes)
    assert found.window == 1 or found.lanes * found.window * nbytes <= WINDOW_BYTES
    assert found.lanes == 1 or found.lanes * nbytes <= LANE_BYTES


def test_a_dataset_that_fits_one_window_is_mixed_wholly():
    assert choose(6, 1000) == Geometry(lanes=1, window=6)


def test_without_shuffle_the_order_is_the_files():
    assert choose(100, 1000, shuffle=False) == Geometry(lanes=1, window=1)


def test_what_is_asked_for_is_kept_within_the_blocks_there_are():
    assert choose(100, 1000, lanes=5, window=3) == Geometry(lanes=5, window=3)
    assert choose(3, 1000, lanes=8, window=50) == Geometry(lanes=3, window=1)


def test_empty_blocks_do_not_count():
    rows = np.array([5, 0, 0, 5, 0])
    assert choose_geometry(rows, rows * 8, shuffle=True, lanes=4).lanes == 2
    assert choose_geometry(rows * 0, rows * 0, shuffle=True) == Geometry(lanes=1, window=1)


@pytest.mark.parametrize("bad", [0, -1, True, 1.5, "2"])
def test_no_number_is_refused(bad):
    for name in ("lanes", "window"):
        with pytest.raises(ConfigError, match=name):
            choose(10, 10, **{name: bad})


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.data())
def test_lanes_are_contiguous_hold_a_block_each_and_are_balanced(sizes, data):
    rows = np.array(sizes)
    lanes = data.draw(st.integers(1, len(sizes)))
    cut = cut_lanes(rows, lanes)
    assert len(cut) == lanes + 1
    assert cut[0] == 0
    assert cut[-1] == len(sizes)
    assert (np.diff(cut) >= 1).all()
    if lanes * 4 <= len(sizes):
        # Where there are blocks enough, no lane is off by more than the blocks at its two edges.
        held = np.add.reduceat(rows, cut[:-1])
        assert (np.abs(held - rows.sum() / lanes) <= 2 * rows.max()).all()
