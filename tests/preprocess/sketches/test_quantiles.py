"""The t-digest's quantiles are within their bound, in any number of parts, and the same for the same parts."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe.preprocess.sketches.quantiles import Quantiles

SHARES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)


def sketched(values, parts):
    whole = Quantiles()
    for part in np.array_split(values, parts):
        one = Quantiles()
        one.add(part)
        whole.merge(Quantiles(one.text()))
    return whole


def draws(kind):
    rng = np.random.default_rng(3)
    return {
        "normal": rng.normal(size=200_000),
        "lognormal": rng.lognormal(sigma=3, size=200_000),
        "integers": rng.integers(0, 50, 200_000).astype(float),
        "sorted": np.arange(200_000.0),
        "falling": np.arange(200_000.0)[::-1].copy(),
    }[kind]


@pytest.mark.parametrize("kind", ["normal", "lognormal", "integers", "sorted", "falling"])
@pytest.mark.parametrize("parts", [1, 2, 37])
def test_the_rank_error(kind, parts):
    """A quantile's rank is off by at most 0.5 % in the middle and 0.05 % at the ends, for any order of the values."""
    values = draws(kind)
    found = sketched(values, parts)
    ordered = np.sort(values)
    for share in SHARES:
        low, high = (np.searchsorted(ordered, found.at(share), side) / len(ordered) for side in ("left", "right"))
        error = max(low - share, share - high, 0)
        # A value between two integers has the rank of the gap: the lower one's end.
        assert error <= (0.005 if 0.01 < share < 0.99 else 0.0005), (share, error)


def test_the_same_parts_give_the_same_bits():
    """Nothing is drawn: two runs store the same text."""
    values = draws("lognormal")
    assert sketched(values, 13).text() == sketched(values, 13).text()


def test_golden():
    """Few values have their exact quantiles; the stored text does not change silently."""
    few = Quantiles()
    few.add(np.array([3.0, 1.0, 2.0, np.nan]))
    assert (few.at(0.0), few.at(0.5), few.at(1.0)) == (1.0, 2.0, 3.0)
    assert few.text() == (
        "AgEU0AcEAAADAAAAAAAAAAAAAAAAAPA/AAAAAAAACEAAAAAAAADwPwEAAAAAAAAAAAAAAAAAAEABAAAAAAAAAAAAAAAAAAhAAQAAAAAAAAA="
    )
    assert Quantiles(few.text()).at(0.5) == 2.0


def test_nothing_and_one():
    """No value has no quantile; one value is all of them."""
    empty = Quantiles()
    assert empty.at(0.5) is None
    assert Quantiles(empty.text()).at(0.5) is None
    empty.merge(Quantiles())
    assert empty.at(0.5) is None
    empty.add(np.array([7.0]))
    assert {empty.at(share) for share in (0.0, 0.5, 1.0)} == {7.0}
