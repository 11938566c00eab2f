"""The price of a cut, and the best under a budget."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.cli.cut.choosing import Measured, Terms, best, crossing, price

TERMS = Terms(rows=1000, workers=2, epochs=3, batch_size=10, step=0.02)


def cut(after="", prepare=0.01, stored=100.0, rate=1000.0):
    return Measured(
        after=after, offline=(), online=(), prepare=prepare, stored=stored, rate=rate, loading=1 / rate
    )  # fmt: skip


def test_a_loader_that_keeps_up_stalls_nothing():
    """10 rows in 10 ms behind 20 ms of compute: the step is compute's, preprocessing is split by the workers."""
    found = price(cut(), TERMS)
    assert found.stall == 0
    assert found.epoch == pytest.approx(2.0)
    assert found.prepare == pytest.approx(5.0)
    assert found.total == pytest.approx(11.0)
    assert found.stored == 100_000


def test_a_slow_loader_stalls_each_step():
    """10 rows in 50 ms: 30 ms of stall a step."""
    found = price(cut(rate=200), TERMS)
    assert found.stall == pytest.approx(0.03)
    assert found.epoch == pytest.approx(5.0)


def test_the_best_fits_the_budget():
    """What is fastest is too large; without room for anything there is none."""
    terms = dataclasses.replace(TERMS, most_bytes=50_000)
    slow, fast = price(cut("a", stored=10, rate=100), terms), price(cut("b", stored=1000), terms)
    assert not fast.fits
    assert best([slow, fast]) is slow
    assert best([fast]) is None


def test_of_two_that_take_the_same_time_the_smaller_is_best():
    """2% is the same."""
    large, small = price(cut("a", stored=10), TERMS), price(cut("b", stored=5, prepare=0.0101), TERMS)
    assert best([large, small]) is small


def test_from_some_epochs_on_preparing_more_pays():
    """Preparing takes 5 s longer and saves 3 s an epoch."""
    online, ahead = price(cut(rate=200), TERMS), price(cut(prepare=0.02), TERMS)
    assert crossing(online, ahead) == pytest.approx(5 / 3)
    assert crossing(ahead, online) is None


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.floats(0.001, 10)] * 3), min_size=1, max_size=6), st.floats(0, 50))
def test_no_fitting_cut_takes_clearly_less_time_than_the_best(shapes, epochs):
    """Whatever the cuts: the best is within 2% of the least time, and fits."""
    terms = dataclasses.replace(TERMS, epochs=epochs, most_bytes=5000)
    priced = [price(cut(prepare=a, stored=b, rate=1000 * c), terms) for a, b, c in shapes]
    chosen = best(priced)
    fitting = [one for one in priced if one.fits]
    assert (chosen is None) == (not fitting)
    if chosen is not None:
        assert chosen.fits
        assert chosen.total <= min(one.total for one in fitting) * 1.02 + 1e-9
