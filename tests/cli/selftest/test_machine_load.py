"""What other programs use: the machine's busy time less this process's own."""

from __future__ import annotations

import pytest

from datapipe.cli.selftest import machine_load
from datapipe.cli.selftest.machine_load import OtherPrograms


@pytest.mark.parametrize(
    ("busy", "own", "others"), [(3.0, 1.0, 1.0), (1.0, 1.0, 0.0), (0.9, 1.0, 0.0), (None, 1.0, None)]
)
def test_others_are_what_is_left(monkeypatch, busy, own, others):
    """3 s of CPU time in 2 s, 1 of them our own: one core. A tick too few is none, and what is not told is not said."""
    clocks = {
        "busy": iter([0.0 if busy is not None else None, busy]),
        "own": iter([0.0, own]),
        "wall": iter([0.0, 2.0]),
    }
    monkeypatch.setattr(machine_load, "busy_seconds", lambda: next(clocks["busy"]))
    monkeypatch.setattr(machine_load, "_own_seconds", lambda: next(clocks["own"]))
    monkeypatch.setattr(machine_load.time, "perf_counter", lambda: next(clocks["wall"]))
    with OtherPrograms() as found:
        pass
    assert found.cores == others


def test_busy_time_only_grows():
    before = machine_load.busy_seconds()
    sum(range(10_000))
    assert before is None or machine_load.busy_seconds() >= before > 0
