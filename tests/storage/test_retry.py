"""Trying again: what is tried, how often, and until when, with a clock that the test holds."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.storage.retry import Retry


@pytest.fixture(autouse=True, params=["threads", "loop"], scope="module")
def on_a_loop(request):
    """Both ways of trying again make the same promises."""
    Clock.on_a_loop = request.param == "loop"
    return Clock.on_a_loop


class Clock:
    on_a_loop = False

    def __init__(self):
        self.now = 0.0
        self.waits = []

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds

    def call(self, retry, failures, *, transient=True, costs=0.0, uniform=lambda _, high: high):
        def action():
            self.now += costs
            if failures:
                raise failures.pop(0)
            return "done"

        async def awaited():
            return action()

        async def sleep(seconds):
            self.sleep(seconds)

        if self.on_a_loop:
            trying = retry.call_async(
                awaited, lambda _: transient, sleep=sleep, clock=lambda: self.now, uniform=uniform
            )
            return asyncio.run(trying)
        return retry.call(action, lambda _: transient, sleep=self.sleep, clock=lambda: self.now, uniform=uniform)


def test_waits_double_up_to_the_longest():
    clock = Clock()
    retry = Retry(attempts=7, first_s=1, longest_s=5, deadline_s=100)
    assert clock.call(retry, [OSError()] * 5) == "done"
    assert clock.waits == [1, 2, 4, 5, 5]


def test_the_last_error_is_raised():
    clock = Clock()
    with pytest.raises(OSError, match="third"):
        clock.call(Retry(attempts=3), [OSError("first"), OSError("second"), OSError("third"), OSError("never")])
    assert len(clock.waits) == 2


def test_what_will_not_pass_is_raised_at_once():
    clock = Clock()
    with pytest.raises(OSError, match="first"):
        clock.call(Retry(), [OSError("first"), OSError("second")], transient=False)
    assert clock.waits == []


def test_jitter_is_full():
    """A wait is drawn from zero to the bound."""
    clock = Clock()
    clock.call(Retry(first_s=1, longest_s=9), [OSError()] * 2, uniform=lambda low, high: low + high / 4)
    assert clock.waits == [0.25, 0.5]


@given(st.integers(1, 20), st.floats(0, 3), st.floats(0.01, 30), st.floats(0.01, 5))
def test_no_attempt_begins_after_the_deadline(attempts, costs, deadline, first):
    clock = Clock()
    retry = Retry(attempts=attempts, first_s=first, longest_s=10, deadline_s=deadline)
    with pytest.raises(OSError):
        clock.call(retry, [OSError()] * 100, costs=costs)
    assert clock.now - costs <= deadline + 1e-6
    assert len(clock.waits) < attempts
