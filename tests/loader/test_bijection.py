"""Keyed bijections: exact for every n, undone by the inverse, the same for ever."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.loader.bijection import Bijection, derive_key

AWKWARD = sorted(
    {1, 2, 3, 5, 7, 11, 13, 97, 101, 997, 65_537, 262_145}
    | {2**k + d for k in range(1, 18) for d in (-1, 0, 1) if 2**k + d >= 1}
    | {k * k + d for k in (3, 10, 64, 255, 256) for d in (-1, 0, 1)}
)


@pytest.mark.parametrize("n", AWKWARD)
@pytest.mark.parametrize("key", [0, 1, 2**64 - 1])
def test_every_index_is_hit_once_and_found_again(n, key):
    bijection = Bijection(n, key)
    image = bijection.forward(np.arange(n))
    assert np.array_equal(np.sort(image), np.arange(n))
    assert np.array_equal(bijection.inverse(image), np.arange(n))


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_any_n_and_key(n, key):
    bijection = Bijection(n, key)
    image = bijection.forward(np.arange(n))
    assert np.bincount(image, minlength=n).tolist() == [1] * n
    assert np.array_equal(bijection.inverse(image), np.arange(n))


@given(st.integers(2**33, 2**62), st.integers(), st.lists(st.integers(0, 2**33 - 1), unique=True, min_size=1))
def test_beyond_32_bits_indices_stay_apart_and_come_back(n, key, indices):
    bijection = Bijection(n, key)
    image = bijection.forward(indices)
    assert len(set(image.tolist())) == len(indices)
    assert ((image >= 0) & (image < n)).all()
    assert bijection.inverse(image).tolist() == indices


def test_one_index_at_a_time_gives_what_all_at_once_gives():
    """It is computed per index: nothing depends on which others are asked for."""
    bijection = Bijection(1000, 5)
    whole = bijection.forward(np.arange(1000))
    assert [int(bijection.forward(i)) for i in range(0, 1000, 37)] == whole[::37].tolist()
    assert bijection.forward(np.arange(1000).reshape(10, 100)).tolist() == whole.reshape(10, 100).tolist()


@pytest.mark.parametrize("n", [2, 3, 4, 10, 33, 100, 256, 300])
def test_every_index_goes_everywhere_equally_often(n):
    """Over many keys, each index lands on each place: chi-squared within 5 standard deviations."""
    keys = 1500 * max(1, n // 20)
    counts = np.zeros((n, n))
    for k in range(keys):
        counts[np.arange(n), Bijection(n, derive_key("uniform", k)).forward(np.arange(n))] += 1
    expected = keys / n
    chi = float(((counts - expected) ** 2 / expected).sum())
    freedom = n * (n - 1)
    assert abs(chi - freedom) < 5 * np.sqrt(2 * freedom * n)


@pytest.mark.parametrize("n", [3, 4])
def test_every_permutation_of_a_few_occurs(n):
    """Small n are not confined to rotations or even permutations."""
    seen = Counter(tuple(Bijection(n, derive_key("all", k)).forward(np.arange(n)).tolist()) for k in range(2000))
    assert set(seen) == set(itertools.permutations(range(n)))
    assert min(seen.values()) > 0.5 * 2000 / len(seen)


def test_neighbours_do_not_stay_neighbours():
    n = 1000
    together = [
        (np.abs(np.diff(Bijection(n, derive_key("near", k)).forward(np.arange(n)))) == 1).mean() for k in range(200)
    ]
    assert 0.001 < np.mean(together) < 0.003  # 2/n by chance


def test_it_is_the_same_for_ever():
    """A state saved today must find the same order tomorrow: these numbers may only change with the state's version."""
    assert Bijection(10, 42).forward(np.arange(10)).tolist() == PINNED_10
    assert Bijection(5000, 42).forward([0, 1, 2, 4999]).tolist() == PINNED_5000
    assert Bijection(10**12, 42).forward([0, 1, 10**12 - 1]).tolist() == PINNED_LARGE
    assert derive_key("order-1", "dp1-abc", 0, 3, "rows", 1, 2) == PINNED_KEY


PINNED_10 = [4, 6, 0, 1, 8, 9, 7, 5, 2, 3]
PINNED_5000 = [4161, 1053, 4177, 410]
PINNED_LARGE = [435533083162, 510446389429, 276575945042]
PINNED_KEY = 17056059857467511588


def test_keys_of_different_parts_differ():
    assert len({derive_key(1, 2), derive_key("1", 2), derive_key(12), derive_key("1", "2"), derive_key(2, 1)}) == 5


def test_what_is_no_index_is_refused():
    with pytest.raises(ConfigError, match="0 indices"):
        Bijection(0, 1)
    for bad in (-1, 10):
        with pytest.raises(IndexError):
            Bijection(10, 1).forward([bad])
