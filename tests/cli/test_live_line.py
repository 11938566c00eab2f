"""The live line on an emulated terminal: the script's own output is what it would be without it."""

import io
import os

import pyte
import pytest

from datapipe.cli.live_line import BottomLine, PlainLines, live_line
from datapipe.profiling.live import LiveFigures

COLUMNS, ROWS = 60, 8


def figures(steps=1, bottleneck="decode"):
    return LiveFigures(
        seconds=1.0, steps=steps, window=2, step_seconds=0.0123, stall=0.4, bottleneck=bottleneck, resident_bytes=None
    )


class Screen(io.StringIO):
    """A stream into an emulated terminal."""

    def __init__(self):
        super().__init__()
        self.screen = pyte.HistoryScreen(COLUMNS, ROWS, history=100)
        self.screen.set_mode(pyte.modes.LNM)  # as a terminal's driver does: a line feed is a new line
        self._parser = pyte.Stream(self.screen)

    def write(self, text):
        self._parser.feed(text)
        return len(text)

    @property
    def rows(self):
        return [row.rstrip() for row in self.screen.display]


@pytest.fixture
def terminal():
    stream = Screen()
    return stream, BottomLine(stream, size=lambda: os.terminal_size((COLUMNS, ROWS)))


@pytest.mark.parametrize("before", [0, 3, ROWS + 5])
def test_the_scripts_lines_scroll_above_it(terminal, before):
    """Wherever the cursor is as it begins, no line of the script is overwritten, and the newest figures stay below."""
    stream, line = terminal
    for i in range(before):
        stream.write(f"early {i}\n")
    stream.write("half a ")
    line(figures(1))
    stream.write("line\n")
    for i in range(3):
        stream.write(f"late {i}\n")
        line(figures(i + 2))
    assert stream.rows[-1].startswith("step 4 · 12.3 ms · stalled 40% · bound by decode")
    shown = [row for row in stream.rows[:-1] if row]
    assert shown[-4:] == ["half a line", "late 0", "late 1", "late 2"]
    line.close()
    assert not any("stalled" in row for row in stream.rows)
    stream.write("the end\n")
    assert [row for row in stream.rows if row][-2:] == ["late 2", "the end"]
    assert stream.screen.margins is None or stream.screen.margins == (0, ROWS - 1)


def test_names_do_not_steer_the_terminal_and_long_ones_are_cut(terminal):
    stream, line = terminal
    line(figures(bottleneck="\x1b[2J" + "x" * 200))
    assert "\\x1b[2Jxxx" in stream.rows[-1]
    assert len(stream.rows[-1]) <= COLUMNS - 1


def test_a_window_too_low_for_it_has_none():
    stream = Screen()
    line = BottomLine(stream, size=lambda: os.terminal_size((COLUMNS, 2)))
    line(figures())
    line.close()
    assert not any(stream.rows)


def test_elsewhere_a_plain_line_now_and_then(capsys):
    """One each `every` seconds of the clock; a short run is silent."""
    now = iter([0.0, 1.0, 29.0, 30.0, 31.0, 60.0])
    lines = PlainLines(every=30.0, clock=lambda: next(now))
    for i in range(5):
        lines(figures(i))
    said = capsys.readouterr().err.splitlines()
    assert [row.split(" · ")[0] for row in said] == ["profile: step 2", "profile: step 4"]


def test_only_the_first_rank_has_one(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert live_line(io.StringIO()) is None
    monkeypatch.setenv("RANK", "0")
    assert isinstance(live_line(io.StringIO()), PlainLines)
