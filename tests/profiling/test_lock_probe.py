"""The interpreter's lock: what delays mean, and that a probe measures them."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from datapipe.profiling.lock_probe import _NAPS, LockProbe, _nap, lock_delay, lock_enabled

SWITCH = 5e6


def test_a_contended_lock_is_warned_of():
    """Half of the probes wait a switch interval, and a stage lost time to it: with the mean delay in the words."""
    found = lock_delay([5_000_000, 2_000] * 50, enabled=True, switch=SWITCH)
    assert (found.taken, found.contended) == (0.5, 0.5)
    assert found.mean == pytest.approx(2_501_000)
    assert found.warning is None  # nobody was held up
    assert "2.5 ms on average" in dataclasses.replace(found, held_up="decode", lost=3e6).warning


def test_a_free_lock_is_not():
    """Probes that come back at once, and a few short waits, are no contention."""
    found = lock_delay([5_000] * 95 + [400_000] * 5, enabled=True, switch=SWITCH)
    assert found.taken == pytest.approx(0.05)
    assert dataclasses.replace(found, held_up="decode").warning is None


@pytest.mark.parametrize("count", [8, 20, 40])
def test_probes_ask_at_every_place_of_a_regular_loop(count):
    """A hold ends as probe k begins: k + 1 asks as much later as its nap, and no gap between naps is twice its share.

    Equal naps asked a loop of 6 ms always while it decoded, and never while its transform held the lock.
    """
    least, most = _NAPS
    asked = sorted([least, *(_nap(k) for k in range(1, count + 1)), most])
    assert asked[0] == least
    assert asked[-1] == most
    assert most - least >= 2 * SWITCH
    assert max(b - a for a, b in zip(asked, asked[1:], strict=False)) <= 2 * (most - least) / count


def test_few_probes_warn_of_nothing():
    found = lock_delay([20_000_000] * 5, enabled=True, switch=SWITCH)
    assert dataclasses.replace(found, held_up="decode").warning is None


def test_a_build_without_the_lock_has_no_delay(monkeypatch):
    """Free-threaded Python: no probe runs, and nothing is claimed of a lock."""
    monkeypatch.setattr("sys._is_gil_enabled", lambda: False, raising=False)
    assert not lock_enabled()
    before = threading.active_count()
    probe = LockProbe()
    probe.start()
    assert threading.active_count() == before
    probe.stop()
    found = probe.found()
    assert (found.enabled, found.probes, found.warning) == (False, 0, None)


@pytest.mark.skipif(not lock_enabled(), reason="this build has no lock")
def test_a_probe_sees_threads_that_compute_in_python():
    """With two threads that never let go, most probes find the lock taken; without, most find it free."""

    def probed(spinning):
        stop, probe = threading.Event(), LockProbe(interval=0.001)

        def spin():
            while not stop.is_set():
                sum(range(2_000))

        threads = [threading.Thread(target=spin) for _ in range(spinning)]
        for thread in threads:
            thread.start()
        probe.start()
        while probe.found().probes < 30:
            stop.wait(0.01)
        stop.set()
        probe.stop()
        for thread in threads:
            thread.join()
        return probe.found()

    busy, idle = probed(2), probed(0)
    # Of most probes, and not on average: a machine that stands still makes a few as late as it likes.
    assert busy.contended > 0.5 > idle.contended
    assert busy.p50 > 5 * idle.p50
