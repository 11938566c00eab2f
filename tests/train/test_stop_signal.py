"""The first signal is noted, the second is the process's own."""

import os
import signal

import pytest

from datapipe.train.stop_signal import StopSignal


@pytest.fixture
def handler():
    """A handler of the process's own for SIGTERM, which counts."""
    calls = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    yield calls
    signal.signal(signal.SIGTERM, before)


def test_the_first_is_noted_and_the_second_passes_through(handler):
    with StopSignal() as stop:
        assert stop.name is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert (stop.name, handler) == ("SIGTERM", [])
        os.kill(os.getpid(), signal.SIGTERM)
        assert handler == [signal.SIGTERM]
    os.kill(os.getpid(), signal.SIGTERM)
    assert len(handler) == 2


def test_the_handlers_come_back_after_an_error_too(handler):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(KeyError), StopSignal():
        {}[signal.getsignal(signal.SIGTERM) is before[0]]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_an_ignored_signal_stays_ignored():
    """`nohup` and background jobs ignore signals on purpose."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.name is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
