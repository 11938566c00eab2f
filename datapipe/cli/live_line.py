"""A script's live figures under its own output: a terminal's last row, kept apart; elsewhere a plain line now and then.

What enters: `LiveFigures`. What leaves: text on standard error.
Invariant: what the script prints is never touched: the terminal scrolls it in the rows above (DECSTBM, DEC VT510
manual, "Set Top and Bottom Margins"), and at the end the margins are the whole screen again and the last row is empty.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final, TextIO, final

from datapipe.cli import console

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.profiling.live import LiveFigures

_SAVE: Final = "\x1b7"
_BACK: Final = "\x1b8"


def live_line(stream: TextIO) -> BottomLine | PlainLines | None:
    """What fits the stream: the last row of a terminal, plain lines elsewhere; None for another rank than the first.

    In a job of several ranks the line says whose figures it has.
    """
    if os.environ.get("RANK", "0") != "0":
        return None
    size = os.environ.get("WORLD_SIZE", "1") if "RANK" in os.environ else "1"
    whose = "" if size == "1" else f"rank 0 of {size} · "
    return BottomLine(stream, whose=whose) if _terminal(stream) else PlainLines(whose=whose)


def _terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


@final
class BottomLine:
    """The newest figures on the last row of a terminal, outside the rows that scroll."""

    def __init__(self, stream: TextIO, *, size: Callable[[], os.terminal_size] | None = None, whose: str = "") -> None:
        self._stream = stream
        self._whose = whose
        self._size = size if size is not None else lambda: os.get_terminal_size(stream.fileno())
        self._rows = 0

    def __call__(self, figures: LiveFigures) -> None:
        """Show them."""
        columns, rows = self._size()
        if rows < 3:
            return
        text = ""
        if rows != self._rows:
            # A row of room first (IND keeps the column): the script may be on the last. Margins move the cursor.
            text = f"\x1bD\x1b[1A{_SAVE}\x1b[1;{rows - 1}r{_BACK}"
            self._rows = rows
        said = console.printable(f"{self._whose}{figures}")[: max(0, columns - 1)]
        self._write(f"{text}{_SAVE}\x1b[{rows};1H\x1b[2K\x1b[2m{said}\x1b[22m{_BACK}")

    def close(self) -> None:
        """Give the row back."""
        if self._rows:
            self._write(f"{_SAVE}\x1b[r\x1b[{self._rows};1H\x1b[2K{_BACK}")
            self._rows = 0

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


@final
class PlainLines:
    """A line every so often, where nothing can be drawn over: a log, a pipe."""

    def __init__(self, *, every: float = 30.0, clock: Callable[[], float] = time.monotonic, whose: str = "") -> None:
        self._whose = whose
        self._every = every
        self._clock = clock
        self._said = clock()

    def __call__(self, figures: LiveFigures) -> None:
        """Say them, if the last line is long enough ago; a run shorter than that stays silent."""
        now = self._clock()
        if now - self._said >= self._every:
            self._said = now
            console.say(f"profile: {self._whose}{figures}")
