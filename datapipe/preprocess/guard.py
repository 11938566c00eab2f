"""A task in a process of its own, which may die, hang or grow: what became of it, and where it was.

What enters: a task, limits. What leaves: an `Ended`. Invariant: whatever the task does, this process goes on, and the
other one is gone when the guard is closed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import DatapipeError, PreprocessError, StepError, in_words
from datapipe.preprocess.execute import WORKER_ENVIRONMENT
from datapipe.preprocess.guarded_process import LENGTH, frame
from datapipe.preprocess.limits import LOOK, Limits, Whereabouts, memory_of
from datapipe.preprocess.poison import OUT_OF_MEMORY, STEP_HUNG, STEP_RAISED, WORKER_KILLED
from datapipe.preprocess.tasks import TaskRecord

if TYPE_CHECKING:
    from types import TracebackType

    from datapipe.preprocess.tasks import Task

_FRAME: Final = re.compile(r'File "([^"]+)", line (\d+) in (\S+)')
_START: Final = 60.0  # seconds for the process to come up, on a machine that is busy


@final
@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a task ended.

    Attributes:
        record: of a task that came through.
        error: what it raised. reason, detail: one of `poison.REASONS`, where the task may be told from its rows.
        place: where it was, last. step: the step that it was in, where that was told.
    """

    record: TaskRecord | None = None
    error: DatapipeError | None = None
    reason: str = ""
    detail: str = ""
    place: Whereabouts | None = None
    step: str = ""

    def fault(self, task: Task) -> DatapipeError:
        """As an error."""
        if self.error is not None:
            return self.error
        error = PreprocessError(
            f"{self.reason}: {self.detail}",
            expected="a task within its limits, or a row to blame",
            fix="give workers more with --worker-memory or --batch-seconds, or make output.split_bytes smaller",
        )
        error.add_note(task.place())
        return error


@final
class Guard:
    """Runs tasks one after the other in a process of its own, which is replaced when it dies."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="datapipe-guard-")
        self._log = os.path.join(self._folder.name, "log")  # noqa: PTH118
        self._held = b""

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()
        self._folder.cleanup()

    def run(self, task: Task, *, store: bool = True) -> Ended:
        """Run it; `store`: its record too."""
        self._start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        place: Whereabouts | None = None
        step = ""
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(frame((task, store)))
            process.stdin.flush()
        since, allowed = time.monotonic(), _START + self._limits.seconds(task.bytes)
        while True:
            kind, value = self._next()
            if isinstance(value, Whereabouts):
                since = time.monotonic()
                allowed = self._limits.seconds(task.bytes if value.kind == "end" else value.bytes)
                if value.kind == "step":
                    step = value.name
                else:
                    place = value
            elif isinstance(value, TaskRecord):
                return Ended(record=value, place=place)
            elif isinstance(value, BaseException):
                return _raised(value, place, step)
            elif kind == "died":
                return Ended(reason=WORKER_KILLED, detail=self._death(), place=place, step=step)
            elif self._limits.memory and memory_of(process.pid) > self._limits.memory:
                self._end()
                detail = f"more than {self._limits.memory >> 20:,} MiB"
                return Ended(reason=OUT_OF_MEMORY, detail=detail, place=place, step=step)
            elif self._limits.batch_seconds and time.monotonic() - since > allowed:
                detail = f"no end within {allowed:g} s{self._where()}"
                self._end()
                return Ended(reason=STEP_HUNG, detail=detail, place=place, step=step)

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._end()
        # The same packages as here, wherever they were found.
        environment = {**os.environ, **WORKER_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._process = subprocess.Popen(  # noqa: S603  (this interpreter, this package)
            [sys.executable, "-m", "datapipe.preprocess.guarded_process", self._log],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )
        self._held = b""

    def _next(self) -> tuple[str, Any]:
        """What the process says next; ("", None) if nothing for a moment, ("died", None) if it is gone."""
        assert self._process is not None
        assert self._process.stdout is not None
        while len(self._held) < LENGTH or len(self._held) < self._size():
            ready, _, _ = select.select([self._process.stdout], [], [], LOOK)
            if not ready:
                return "", None
            data = os.read(self._process.stdout.fileno(), 1 << 20)
            if not data:
                self._process.wait()
                return "died", None
            self._held += data
        size = self._size()
        value, self._held = self._held[LENGTH:size], self._held[size:]
        return "said", pickle.loads(value)  # noqa: S301  (of our own child)

    def _size(self) -> int:
        return LENGTH + int.from_bytes(self._held[:LENGTH], "little")

    def _death(self) -> str:
        assert self._process is not None
        code = self._process.returncode
        if code >= 0:
            return f"the process ended with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"the process was ended by {name}{self._frame()}"

    def _where(self) -> str:
        """Where the process stands, asked."""
        assert self._process is not None
        if not hasattr(signal, "SIGUSR1"):
            return ""
        self._process.send_signal(signal.SIGUSR1)
        for _ in range(20):
            time.sleep(LOOK)
            if found := self._frame():
                return found
        return ""

    def _frame(self) -> str:
        try:
            with open(self._log, errors="replace") as file:  # noqa: PTH123
                found = _FRAME.search(file.read())
        except FileNotFoundError:
            return ""
        if found is None:
            return ""
        # The name alone: paths differ from machine to machine, and this is published. A user's file travels as a copy.
        name = os.path.basename(found[1])  # noqa: PTH119
        file_line = f"line {found[2]}" if name.endswith(".resource") else f"{name}:{found[2]}"
        return f" at {file_line} in {found[3]}"

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


def _raised(error: BaseException, place: Whereabouts | None, step: str) -> Ended:
    if not isinstance(error, DatapipeError):
        error = StepError(in_words(error))
    reason = ""
    if isinstance(error, StepError):
        reason = OUT_OF_MEMORY if error.got == "out of memory" else STEP_RAISED
    return Ended(error=error, reason=reason, detail=error.got, place=place, step=step)
