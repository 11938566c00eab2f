"""position_ids: begin at 0 in each segment."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datapipe.device import BufferPool
from datapipe.loader.packed import add_positions


@given(st.integers(0, 4), st.integers(0, 9), st.data())
def test_positions_are_what_a_loop_counts(rows, length, data):
    flat = data.draw(st.lists(st.integers(0, 3), min_size=rows * length, max_size=rows * length))
    segments = np.array(flat, np.int64).reshape(rows, length)
    batch = {"tokens": segments * 7, "segment_ids": segments}
    add_positions(batch, BufferPool())
    expected = np.zeros((rows, length), np.int64)
    for r in range(rows):
        for t in range(1, length):
            expected[r, t] = expected[r, t - 1] + 1 if segments[r, t] == segments[r, t - 1] else 0
    assert batch["position_ids"].dtype == np.int64
    assert batch["position_ids"].tolist() == expected.tolist()


def test_only_packed_batches_get_them_and_their_own_are_kept():
    pool = BufferPool()
    segments = np.zeros((2, 3), np.int64)
    for batch in (
        {"segment_ids": segments},
        {"segment_ids": [1, 2], "tokens": segments},
        {"segment_ids": segments, "tokens": segments[:, :2]},
        {"segment_ids": np.zeros(3), "tokens": np.zeros(3)},
    ):
        add_positions(batch, pool)
        assert "position_ids" not in batch
    own = {"segment_ids": segments, "tokens": segments, "position_ids": "mine"}
    add_positions(own, pool)
    assert own["position_ids"] == "mine"
