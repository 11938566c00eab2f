"""A run as it is shown: one line on a terminal, plain lines elsewhere."""

import io
import os

import pytest

from datapipe.cli.train_view import TrainView, step_line
from datapipe.train import StepRecord


def record(step, **changes):
    told = {
        "step": step, "loss": 2.5, "lr": 1e-3, "grad_norm": 0.75, "tokens": 700, "rows": 2, "tokens_per_s": 12345.6,
        "wait_ms": 1.0, "compute_ms": 9.0, "epoch": 0, "stall": 0.123, "memory": 400_000_000,
    }  # fmt: skip
    return StepRecord(**told | changes)


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def fileno(self):
        return 1


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def shown(stream, records, clock=lambda: 0.0):
    with TrainView(20, stream=stream, clock=clock) as view:
        for each in records:
            view.update(each)
    return stream.getvalue()


def test_a_line_has_what_is_watched():
    """Loss, rate, speed, norm, stall and memory always; MFU, an evaluation and a spike where there is one."""
    assert step_line(record(7), 100) == (
        "step   7/100  loss 2.5000  lr 1.00e-03  12,346 targets/s  norm 0.75  stall 12.3%  400.0 MB"
    )
    told = step_line(record(7, mfu=0.412, eval_loss=2.25, spike="the loss is nan: update left out"), 100)
    assert "mfu 41.2%" in told
    assert told.endswith("evaluated 2.2500  the loss is nan: update left out")


def test_elsewhere_a_line_now_and_then():
    """The first, the last, evaluations and spikes; of the others one each ten seconds."""
    times = iter(range(0, 80, 4))
    told = shown(
        io.StringIO(),
        [
            record(step, **({"eval_loss": 1.0} if step == 5 else {"spike": "x"} if step == 6 else {}))
            for step in range(1, 21)
        ],
        clock=lambda: next(times),
    )
    steps = [int(line.split()[1].split("/")[0]) for line in told.splitlines()]
    assert steps == [1, 4, 5, 6, 9, 12, 15, 18, 20]
    assert "\x1b" not in told


def test_on_a_terminal_the_line_is_written_over(monkeypatch):
    """Cut to the width; an evaluation's stays; control characters are shown, not obeyed."""
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((40, 20)))
    told = shown(Terminal(), [record(1), record(2, spike="\x1b[2J" * 3), record(3)])
    assert told.count("\r\x1b[2K") == 3
    assert told.count("\n") == 2
    assert told.endswith("\n")
    assert "\x1b[2J" not in told
    assert all(len(part.rstrip("\n")) <= 39 for part in told.split("\r\x1b[2K"))


def test_other_ranks_are_silent(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert shown(io.StringIO(), [record(1)]) == ""
