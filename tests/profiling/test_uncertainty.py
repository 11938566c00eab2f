"""Intervals: as wide as executed fixes were off, and wider for every reason to be."""

from __future__ import annotations

import dataclasses

import pytest

from datapipe.profiling.changes import Change
from datapipe.profiling.uncertainty import half_width, tried
from datapipe.profiling.workload import Workload

PLAIN = Workload(
    jobs=(), takes=(), pools=(), stages=(), helps=frozenset(), ahead=(), cores=2.0, serial=frozenset(),
    unsure=frozenset(), recorded_ns=10e6, takes_per_step=1.0, stalled=0.0,
)  # fmt: skip
DEVICE = Change(kind="device", factor=1.5)


def width(work=PLAIN, change=DEVICE, *, after=10e6, before=10e6, recorded=10e6):
    return half_width(work, change, before=before, after=after, recorded=recorded)


def test_a_quiet_run_done_again_differs_by_little():
    """Nothing changed, nothing waited for a core: 1.28 standard deviations of 1%."""
    assert width() == pytest.approx(0.0128 * 10e6, rel=0.01)


@pytest.mark.parametrize(
    "more",
    [
        {"after": 10.5e6},  # the change moves the step
        {"work": dataclasses.replace(PLAIN, stalled=1.0)},  # other programs
        {"work": dataclasses.replace(PLAIN, stalled=None)},  # nobody says whether there were any
    ],
)
def test_each_reason_for_doubt_widens(more):
    assert width(**more) > width()


def test_a_run_that_computes_loses_more_to_other_programs():
    """The same pressure costs a run that uses a core ten times what it costs one that sleeps."""
    asleep, busy = (dataclasses.replace(PLAIN, stalled=1.0, busy=cores) for cores in (0.0, 1.0))
    assert width(busy) > 5 * width(asleep)


def test_what_was_never_executed_is_doubted_more():
    """Narrower dtypes, and a device ten times faster: nobody ran those; a fix that was run is believed."""
    assert tried(DEVICE)
    assert tried(Change(kind="latency", factor=10e6))
    for other in (Change(kind="dtypes", factor=1.5), Change(kind="device", factor=10.0)):
        assert not tried(other)
        assert width(change=other, after=5e6) > width(after=5e6)


def test_a_replay_that_misses_what_was_recorded_is_doubted():
    """The unchanged replay is 10% short: a change of half the step may be wrong by as much of it."""
    exact, short = width(after=5e6), width(before=9e6, after=4.5e6)
    assert short - exact > 0.3 * exact


def test_a_run_that_is_restless_will_be_so_again():
    """The step's eighths differ by 5%: so may the next run."""
    assert width(dataclasses.replace(PLAIN, drift=0.05)) > 3 * width()


def test_a_replay_that_does_not_fit_is_doubted_whatever_the_change_moves():
    """40% off, no executed run says how wrong a prediction is: by as much, even where it moves nothing."""
    for replayed in (10e6 / 1.4, 10e6 / 0.6):
        assert width(before=replayed, after=replayed) > 0.4 * 10e6
    assert width(before=10e6 / 1.05, after=10e6 / 1.05) < 0.02 * 10e6


def test_sending_batches_to_processes_is_doubted_where_it_was_measured():
    """Of our own loader; of another nothing is known, and nothing is added."""
    workers = Change(kind="workers", stage="transform", factor=2.0)
    ours = dataclasses.replace(PLAIN, cheap=0.2e6)
    assert width(change=workers) == width()
    assert width(ours, workers) > 5 * width(ours)
