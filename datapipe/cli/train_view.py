"""A run as it goes: one line that is written over on a terminal, plain lines now and then elsewhere.

What enters: step records. What leaves: text on standard error. Invariant: a plain line is said for the first step, for
every evaluation and whatever was out of the ordinary, and else at most every `every` seconds; other ranks than the
first are silent.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, TextIO, final

from datapipe.cli import console

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from datapipe.train import StepRecord


@final
class TrainView:
    """Shows a run of `steps` steps."""

    def __init__(
        self, steps: int, *, stream: TextIO | None = None, every: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._steps = steps
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._silent = os.environ.get("RANK", "0") != "0"
        self._every = every
        self._clock = clock
        self._said: float | None = None
        self._drawn = False

    def __enter__(self) -> TrainView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._drawn:
            self._write("\n")  # the last figures stay

    def update(self, record: StepRecord) -> None:
        """Show a step."""
        if self._silent:
            return
        text = console.printable(step_line(record, self._steps))
        worth = record.eval_loss is not None or record.spike is not None
        now = self._clock()
        if self._live:
            columns = os.get_terminal_size(self._stream.fileno()).columns
            self._write(f"\r\x1b[2K{text[: max(0, columns - 1)]}" + ("\n" if worth else ""))
            self._drawn = not worth
        elif worth or self._said is None or now - self._said >= self._every or record.step >= self._steps:
            self._said = now
            self._write(text + "\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def step_line(record: StepRecord, steps: int) -> str:
    """A step in one line."""
    parts = [
        f"step {record.step:>{len(str(steps))}}/{steps}",
        f"loss {record.loss:.4f}",
        f"lr {record.lr:.2e}",
        f"{record.tokens_per_s:,.0f} targets/s",
        f"norm {record.grad_norm:.3g}",
    ]
    if record.mfu is not None:
        parts.append(f"mfu {record.mfu:.1%}")
    parts += [f"stall {record.stall:.1%}", console.size(record.memory)]
    if record.eval_loss is not None:
        parts.append(f"evaluated {record.eval_loss:.4f}")
    if record.spike is not None:
        parts.append(record.spike)
    return "  ".join(parts)
