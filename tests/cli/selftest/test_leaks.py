"""Leak trials: three pipes a round, of which one leaks for ever."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from datapipe.cli.selftest.leaks import leak_trials


@pytest.mark.parametrize("readings", [True, False])
def test_one_of_three_leaks(readings):
    """What is said of each is kept beside what was true; too few readings are None, which is no answer."""
    kept = []

    class Bench:
        def recorded(self, pipe, interval):
            kept.append((pipe.leak_kb, pipe.leak_calls))
            leak = SimpleNamespace(leak=pipe.leak_kb > 0)
            use = SimpleNamespace(growth=(leak,) if readings else ())
            return SimpleNamespace(summary=SimpleNamespace(memory_use=use))

    found = leak_trials(Bench(), 1)
    assert found == (
        [(False, False), (True, True), (False, True)] if readings else [(False, None), (True, None), (False, None)]
    )
    assert kept[0] == (0, 0)
    assert kept[2][1] > 0
