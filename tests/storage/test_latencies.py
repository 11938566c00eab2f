"""When a request is late, and how often it may be sent twice."""

import pytest

from datapipe.storage.latencies import FACTOR, LEAST, SHARE, SHORTEST_S, WHOLE_FACTOR, Latencies


def test_nothing_is_late_before_enough_is_known():
    known = Latencies()
    for i in range(LEAST + 40):
        assert (known.hedge_after(1000) is not None) == (i >= max(LEAST, 1 / SHARE)), i
        known.add(1000, 0.1, 0.2)
    assert known.hedge_after(1 << 20) is None  # of that size nothing is known


def test_late_is_later_than_nearly_all():
    """Twice the 0.95 quantile of first bytes, five times that of last ones; one slow request does not move them."""
    known = Latencies()
    for _ in range(99):
        known.add(1000, 0.05, 0.2)
    known.add(1000, 0.05, 30.0)
    assert known.hedge_after(1000) == pytest.approx((FACTOR * 0.05, WHOLE_FACTOR * 0.2))
    for _ in range(200):
        known.add(1000, 0.001, 0.001)
    assert known.hedge_after(1000) == (SHORTEST_S, SHORTEST_S)


def test_hedges_are_few():
    """A service that is slow for everybody is asked at most one time in twenty more."""
    known, spent = Latencies(), 0
    for _ in range(10_000):
        known.add(1000, 1.0, 1.0)
        spent += known.spend()
    assert spent <= 10_000 * SHARE
    assert spent >= 10_000 * SHARE * 0.99


def test_savings_are_bounded():
    """However long nothing was late, only so many are sent twice when everything is."""
    known = Latencies()
    for _ in range(100_000):
        known.add(1000, 0.1, 0.1)
    assert sum(known.spend() for _ in range(1000)) <= 8
    assert known.hedge_after(1000) is None


def test_what_is_worth_reading_past():
    """First byte's time × rate, within bounds; small requests say nothing of the rate."""
    known = Latencies()
    for _ in range(50):
        known.add(1000, 0.02, 0.03)
    assert known.break_even(1, 1 << 30) is None
    for _ in range(20):
        known.add(2_000_000, 0.02, 0.06)
    assert known.break_even(1, 1 << 30) == pytest.approx(1_000_000, rel=1e-6)
    assert known.break_even(1, 1000) == 1000
