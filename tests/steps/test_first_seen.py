"""first_seen: the first index of each key, for any keys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.steps.first_seen import first_seen


def plain(keys):
    seen = {}
    return [seen.setdefault(key, i) for i, key in enumerate(keys)]


@given(st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2**64 - 1)), max_size=200))
@settings(deadline=None)
def test_is_the_first_index(keys):
    """A dictionary says the same."""
    assert first_seen(np.array(keys, np.uint64)).tolist() == plain(keys)


@pytest.mark.parametrize("spread", [1, 3, 1 << 32])
def test_many(spread):
    """Fifty thousand keys, many equal, small numbers or alike in their high bits."""
    keys = np.random.default_rng(1).integers(0, 20_000, 50_000).astype(np.uint64) * np.uint64(spread)
    assert first_seen(keys).tolist() == plain(keys.tolist())


def test_keys_made_to_share_slots():
    """Keys that agree in every slot of every round are settled by sorting."""
    from datapipe.steps import first_seen as module

    # Keys below 2**20 share the slots of the first round; the factors of the others are made useless.
    keys = np.random.default_rng(2).integers(0, 500, 3000).astype(np.uint64)
    factors = module._FACTORS
    try:
        module._FACTORS = (0, 0, 0, 0)
        assert first_seen(keys).tolist() == plain(keys.tolist())
    finally:
        module._FACTORS = factors
