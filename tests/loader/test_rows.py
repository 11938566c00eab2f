"""Gathering by address is gathering."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.loader import rows as rows_module
from datapipe.loader.rows import ScatteredRows


def gather(blocks, slot, row, width, out_dtype, first=0, last=None):
    addresses = np.array([block.__array_interface__["data"][0] for block in blocks], np.int64)
    last = len(row) if last is None else last
    shape = (last - first, width) if width != 1 else (last - first,)
    out = np.full(shape, 99, out_dtype)
    scattered = ScatteredRows(addresses, np.array(slot, np.int64), np.array(row, np.int64), blocks[0].dtype, width)
    scattered.copy_to(out, first, last)
    return out


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(1, 5),
    st.sampled_from(["i1", "u2", "i4", "f4", "i8", "f8", "?"]),
    st.data(),
)
def test_it_gives_what_indexing_each_block_gives(sizes, width, dtype, data):
    rng = np.random.default_rng(0)
    shape = (lambda n: (n, width)) if width > 1 else (lambda n: (n,))
    blocks = [rng.integers(0, 2 if dtype == "?" else 100, shape(n)).astype(dtype) for n in sizes]
    picks = data.draw(st.lists(st.integers(0, sum(sizes) - 1), max_size=20))
    edges = np.cumsum([0, *sizes])
    slot = [int(np.searchsorted(edges, p, side="right")) - 1 for p in picks]
    row = [p - int(edges[s]) for p, s in zip(picks, slot, strict=True)]
    wide = np.dtype(dtype) if dtype in {"f4", "f8", "?"} else np.dtype(np.int64)
    first = data.draw(st.integers(0, len(picks)))
    expected = [blocks[s][r].tolist() for s, r in zip(slot, row, strict=True)]
    assert gather(blocks, slot, row, width, wide, first).tolist() == expected[first:]


@pytest.mark.parametrize("limit", ["_STEP_BYTES", "_MAX_EXTENT"])
def test_small_steps_and_rows_one_at_a_time_give_the_same(monkeypatch, limit):
    """Both ways around numpy's limits: temporaries in steps, and rows too wide for one view."""
    blocks = [np.arange(n * 7, dtype=np.int32).reshape(n, 7) + n for n in (5, 11, 3)]
    slot, row = [2, 0, 1, 1, 0], [2, 4, 10, 0, 0]
    usual = gather(blocks, slot, row, 7, np.int64)
    monkeypatch.setattr(rows_module, limit, 64)
    assert np.array_equal(gather(blocks, slot, row, 7, np.int64), usual)
    assert usual[0].tolist() == blocks[2][2].tolist()


@pytest.mark.parametrize("limit", [1 << 18, 64])
@pytest.mark.parametrize("out_dtype", ["i4", "i8"])
def test_rows_of_blocks_that_lie_whole_rows_apart(monkeypatch, limit, out_dtype):
    """They are taken from one view that does not overlap, in steps or straight into the batch."""
    monkeypatch.setattr(rows_module, "_STEP_BYTES", limit)
    memory = np.arange(40 * 5, dtype=np.int32).reshape(40, 5)
    blocks = [memory[20:33], memory[3:9], memory[36:]]
    rng = np.random.default_rng(0)
    slot = rng.integers(0, 3, 50)
    row = rng.integers(0, np.array([13, 6, 4])[slot])
    found = gather(blocks, slot, row, 5, out_dtype, first=7, last=41)
    assert np.array_equal(found, memory[np.array([20, 3, 36])[slot] + row][7:41])
    sparse = np.zeros((50, 10), out_dtype)[:, ::2]
    address = np.array([block.__array_interface__["data"][0] for block in blocks])
    ScatteredRows(address, slot, row, memory.dtype, 5).copy_to(sparse, 0, 50)
    assert np.array_equal(sparse[7:41], found)


def test_a_shape_of_more_dimensions_is_filled_in_order():
    block = np.arange(2 * 3 * 4, dtype=np.float32)
    out = np.zeros((2, 3, 4), np.float32)
    address = np.array([block.__array_interface__["data"][0]])
    ScatteredRows(address, np.zeros(2, np.int64), np.array([1, 0]), block.dtype, 12).copy_to(out, 0, 2)
    assert out.ravel().tolist() == [*range(12, 24), *range(12)]


def test_no_rows_and_no_values_are_fine():
    block = np.arange(4, dtype=np.int32)
    address = np.array([block.__array_interface__["data"][0]])
    none = np.empty(0, np.int64)
    ScatteredRows(address, none, none, block.dtype, 2).copy_to(np.empty((0, 2)), 0, 0)
    ScatteredRows(none, none, none, block.dtype, 1).copy_to(np.empty(0), 0, 0)
    ScatteredRows(address, np.zeros(1, np.int64), np.zeros(1, np.int64), block.dtype, 0).copy_to(np.empty((1, 0)), 0, 1)
