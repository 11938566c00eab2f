"""The first signal is noted, the second is the process's own."""

import os
import signal
import threading

import pytest

from datapipe.train import load_checkpoint
from datapipe.train.stop_signal import StopSignal
from tests.train.conftest import weights


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_its_step_with_a_checkpoint(tmp_path, run, make_loader, number):
    """It arrives inside step 4; the step is finished and saved, and the run goes on from it without a difference."""
    whole = run(out=tmp_path / "whole")

    def strike(position, batch):
        if position == 4:
            os.kill(os.getpid(), number)
        return batch

    stopped = run(make_loader(change=strike))
    assert (stopped.step, stopped.stopped) == (4, signal.Signals(number).name)
    assert load_checkpoint(tmp_path / "run").step == 4
    assert weights(run()) == weights(whole)


def test_a_second_ctrl_c_is_not_held_back(run, make_loader):
    """A loop that hangs can still be interrupted."""

    def strike(position, batch):
        for _ in range(2 if position == 3 else 0):
            os.kill(os.getpid(), signal.SIGINT)
        return batch

    with pytest.raises(KeyboardInterrupt):
        run(make_loader(change=strike))


def test_it_runs_outside_the_main_thread(run):
    """Where no handler can be set."""
    results = []
    thread = threading.Thread(target=lambda: results.append(run(steps=2)))
    thread.start()
    thread.join()
    assert results[0].step == 2
