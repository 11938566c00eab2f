"""SIGTERM and Ctrl-C: finish the step, then leave.

What enters: a signal. What leaves: its name, when the loop next looks. Invariant: the handlers that were there are back
when the block ends; a second signal is theirs at once, so a loop that hangs can still be ended.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Final, Self, final

if TYPE_CHECKING:
    from types import FrameType, TracebackType

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@final
class StopSignal:
    """Catches the first signal while the block runs; outside the main thread it catches none, as Python demands."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = signal.getsignal(number)
                if before is None or before is signal.SIG_IGN:
                    # Set from C, or ignored on purpose (nohup, a shell's background job): left as it is.
                    continue
                self._before[number] = before
                signal.signal(number, self._caught)
        return self

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, before)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()
