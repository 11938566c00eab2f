"""The run's log: JSON lines, one a step, each step once however often the run was stopped.

What enters: step records. What leaves: `metrics.jsonl`. Invariant: after a resume from step n it holds steps 1 to n,
and then what follows; a line that a killed process left torn is cut off.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Protocol, final

from datapipe.train.checkpoint_files import faults

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class Line(Protocol):
    """What can be a line: plain JSON with its `step`."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""


@final
class MetricsLog:
    """Appends to the log at `path`, after cutting it back to its first `steps` steps.

    Args:
        writes: whether this process does; of several that train together one does.
    """

    def __init__(self, path: Path, *, steps: int, writes: bool = True) -> None:
        self.path = path
        self._file: Any = None
        if not writes:
            return
        with faults(f"log {path}"):
            self._file = path.open("r+b") if path.exists() else path.open("w+b")
            self._file.truncate(_length_of(self._file, steps))
            self._file.seek(0, 2)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        # Closing writes again what a full disk refused a moment ago: its error must not hide ours of then.
        with faults(f"log {self.path}") if error is None else contextlib.suppress(OSError):
            self._file.close()

    def write(self, record: Line) -> None:
        """Add a line; it outlives this process as soon as this returns."""
        if self._file is None:
            return
        with faults(f"log {self.path}"):
            self._file.write(json.dumps(record.as_dict()).encode() + b"\n")
            self._file.flush()


def _length_of(file: Any, steps: int) -> int:
    """Bytes of the whole lines from the beginning that belong to steps up to `steps`."""
    length = 0
    for line in file:
        try:
            step = json.loads(line)["step"] if line.endswith(b"\n") else None
        except (ValueError, KeyError, TypeError):
            step = None
        if not isinstance(step, int) or step > steps:
            break
        length += len(line)
    return length
