"""Signatures agree as often as sets are alike, for small sets and great ones; bands find pairs as the formula says."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe.steps import min_hash
from datapipe.steps.min_hash import band_hashes, bands_of, recall, signatures

GOLDEN = [7074346531288132785, 8513292870620953592]


def pairs(draw, n, size, jaccard):
    """Some pairs of random sets with that similarity: (hashes, offsets), pair i at 2i and 2i + 1."""
    common = round(2 * size * jaccard / (1 + jaccard))
    own = size - common
    sets = []
    for _ in range(n):
        drawn = draw.choice(1 << 32, common + 2 * own, replace=False).astype(np.uint32)
        sets += [np.sort(np.concatenate([drawn[:common], drawn[common + k * own : common + (k + 1) * own]]))
                 for k in (0, 1)]  # fmt: skip
    offsets = np.cumsum([0, *(len(each) for each in sets)])
    return np.concatenate(sets), offsets, common / (common + 2 * own)


@pytest.mark.parametrize("size", [9, 40, 150, 1000])
@pytest.mark.parametrize("jaccard", [0.5, 0.8])
def test_places_agree_with_the_similarity(size, jaccard):
    """Unbiased: over 300 pairs of 112 places the share that agrees is J, within four standard errors."""
    hashes, offsets, true = pairs(np.random.default_rng(size), 300, size, jaccard)
    table = signatures(hashes, offsets, 112)
    agree = (table[0::2] == table[1::2]).mean()
    assert agree == pytest.approx(true, abs=4 * (true * (1 - true) / 300 / 30) ** 0.5)


@pytest.mark.parametrize("size", [30, 300])
def test_recall_is_that_of_the_formula(size):
    """Pairs of similarity 0.7 and 0.8 share a band as often as 1 - (1 - J^8)^14, within four points of 2,000."""
    for jaccard in (0.7, 0.8):
        hashes, offsets, true = pairs(np.random.default_rng(size), 2000, size, jaccard)
        bands = bands_of(hashes, offsets, 14, 8)
        found = (bands[0::2] == bands[1::2]).any(axis=1).mean()
        assert found == pytest.approx(recall(true, 14, 8), abs=0.04)


def test_every_place_of_a_set_of_one_is_filled():
    """A single element reaches all places, and equal sets have equal signatures."""
    table = signatures(np.array([7, 7, 9], np.uint32), np.array([0, 1, 2, 3, 3]), 112)
    assert (table[:3] < np.uint64(1 << 60)).all()
    assert (table[0] == table[1]).all()
    assert (table[0] != table[2]).all()
    assert (table[3] == np.uint64(0xFFFFFFFFFFFFFFFF)).all()


def test_a_signature_depends_on_no_neighbour(monkeypatch):
    """Signed all at once or a few at a time: the same bands."""
    hashes, offsets, _ = pairs(np.random.default_rng(0), 20, 33, 0.6)
    whole = bands_of(hashes, offsets, 5, 4)
    assert (band_hashes(signatures(hashes, offsets, 20), 5, 4) == whole).all()
    monkeypatch.setattr(min_hash, "AT_ONCE", 64)
    assert (bands_of(hashes, offsets, 5, 4) == whole).all()


def test_golden_bands():
    """Bands are stored in datasets: they never change under the same rule."""
    bands = bands_of(np.arange(0, 1 << 32, 1 << 27, np.uint32), np.array([0, 32]), 2, 3)
    assert bands.tolist() == [GOLDEN]
    assert min_hash.RULE == "fast similarity sketch 1"


def test_recall_formula():
    """Worked by hand: one band of one place finds J; the defaults find 0.924 of pairs at 0.8."""
    assert recall(0.3, 1, 1) == pytest.approx(0.3)
    assert recall(0.8, 14, 8) == pytest.approx(0.9236, abs=1e-3)
