"""Pages parsed in a process that may be killed: a page that hangs or swells the parser costs itself alone.

What enters: pages. What leaves: for each, its text or why there is none. Invariant: a page that ends the process is
named, those beside it are parsed as if it were not there, and no process outlives its owner: it ends when its input
does.

One process per thread that asks, kept from batch to batch: a start costs 60 ms, a page less than one.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from typing import TYPE_CHECKING, Final, final

from datapipe.errors import StepError
from datapipe.steps import cpu_time
from datapipe.steps.html_sandbox_child import ANSWER, AT_ONCE, DONE, FAILED, HEADER, OUT_OF_MEMORY, TOGETHER

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT: Final = "html_timeout"
MEMORY: Final = "html_out_of_memory"
CRASHED: Final = "html_crashed"
REFUSED: Final = "html_failed"

_NO_MEMORY: Final = b"memory allocation of"
"""What the parser's allocator (Rust's) says before it aborts; lexbor's own failures come back as answers."""

_MALLOC: Final = {"MALLOC_TRIM_THRESHOLD_": str(64 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
"""glibc keeps what a page's tree took for the next page's: otherwise the kernel zeroes it again for each."""

_CHUNK: Final = 1 << 18
_PIPE: Final = 1 << 20
_STUCK: Final = 30.0
"""Wall seconds for each CPU second of the limit after which a silent process is given up: on a machine so busy that it
gets a thirtieth of a core, or where the process was stopped."""
_DEADS_IN_A_ROW: Final = 3
"""Processes that die before their first answer to a page that is harmless: something is wrong with the machine."""

_own = threading.local()


def sandbox(cpu_seconds: float, memory_bytes: int) -> Sandbox:
    """This thread's sandbox with these limits."""
    key = (os.getpid(), cpu_seconds, memory_bytes)
    mine: dict[tuple[int, float, int], Sandbox] = _own.__dict__.setdefault("sandboxes", {})
    if key not in mine:
        mine.clear()  # others' limits, or of the process this one was forked from
        mine[key] = Sandbox(cpu_seconds, memory_bytes)
    return mine[key]


@final
class Sandbox:
    """One process that parses pages; not for several threads at once."""

    def __init__(self, cpu_seconds: float, memory_bytes: int) -> None:
        self._arguments = [repr(float(cpu_seconds)), str(int(memory_bytes))]
        self._patience = max(60.0, _STUCK * cpu_seconds)
        self._process: subprocess.Popen[bytes] | None = None
        self._ender: weakref.finalize[[subprocess.Popen[bytes]], Sandbox] | None = None

    def extract(self, pages: Sequence[memoryview], wanted: int) -> list[bytes | str]:
        """Each page's text as UTF-8 bytes, or the reason (a str) why there is none.

        Args:
            pages: UTF-8 markup. wanted: see `html_extract.MAIN_CONTENT`.

        Raises:
            StepError: no process can be started here.
        """
        found: list[bytes | str] = []
        retried = careful = -1
        while len(found) < len(pages):
            died_of = self._some(pages, wanted, found, careful)
            if died_of is None:
                continue
            if len(found) >= careful:
                # One of those whose answers were on their way: they are asked for one by one.
                careful = len(found) + TOGETHER
                continue
            # Killed from outside, or by the page? A page is blamed for what it does to a second process as well;
            # for using up its time it is blamed at once, that signal comes from nowhere else.
            if died_of == TIMEOUT or retried == len(found):
                found.append(died_of)
            else:
                retried = len(found)
        return found

    def close(self) -> None:
        """End the process."""
        if self._ender is not None:
            self._ender()
            self._process = self._ender = None

    def _some(self, pages: Sequence[memoryview], wanted: int, found: list[bytes | str], careful: int) -> str | None:
        """Parse pages from number len(found) on, until all are or the process ends; then, what the process died of.

        Pages before number `careful` are answered one by one, so that the first without an answer is to blame.
        """
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        out, back = process.stdin.fileno(), process.stdout.fileno()
        next_page = len(found)
        pending: list[memoryview] = []
        answer = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(back, selectors.EVENT_READ)
            selector.register(out, selectors.EVENT_WRITE)
            while len(found) < len(pages):
                ready = selector.select(self._patience)
                if not ready:
                    process.kill()
                for key, _ in ready:
                    if key.fd == out:
                        while not pending and next_page < len(pages):
                            page = pages[next_page]
                            next_page += 1
                            at_once = AT_ONCE if next_page <= careful or next_page == len(pages) else 0
                            pending = [memoryview(HEADER.pack(wanted | at_once, len(page))), page]
                        if not self._push(out, pending) or (not pending and next_page >= len(pages)):
                            selector.unregister(out)
                        continue
                    data = os.read(back, _CHUNK)
                    if not data:
                        return self._ended(TIMEOUT if not ready else None)
                    answer += data
                    if self._take(answer, found):
                        self.close()  # it has answered that it is of no further use
                        return None
        return None

    @staticmethod
    def _push(out: int, pending: list[memoryview]) -> bool:
        """Write some of what is pending; False if nobody reads any more (its end is noticed where answers are read)."""
        while pending:
            if not pending[0]:
                pending.pop(0)
                continue
            try:
                pending[0] = pending[0][os.write(out, pending[0][:_CHUNK]) :]
            except BlockingIOError:
                return True
            except BrokenPipeError:
                return False
        return True

    @staticmethod
    def _take(answer: bytearray, found: list[bytes | str]) -> bool:
        """Move whole answers into `found`; True if the process ends after the last."""
        at = 0
        last = False
        while len(answer) - at >= ANSWER.size:
            status, size, seconds = ANSWER.unpack_from(answer, at)
            end = at + ANSWER.size + size
            if len(answer) < end:
                break
            found.append(bytes(answer[at + ANSWER.size : end]) if status == DONE else _REASONS[status])
            cpu_time.add(seconds)
            last = status == OUT_OF_MEMORY
            at = end
        del answer[:at]
        return last

    def _ended(self, known: str | None) -> str:
        assert self._process is not None
        code = self._process.wait()
        said = os.pread(self._words.fileno(), _CHUNK, 0)
        self.close()
        if known or code == -signal.SIGPROF:
            return known or TIMEOUT
        return MEMORY if _NO_MEMORY in said else CRASHED

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  (it is the process's, and closed when it is collected)
        # The same modules as here: -m alone would look into the working folder first, whatever lies there.
        path = os.pathsep.join(each or os.getcwd() for each in sys.path)  # noqa: PTH109  (entries are text)
        command = [sys.executable, "-P", "-m", "datapipe.steps.html_sandbox_child", *self._arguments]
        try:
            process = subprocess.Popen(  # noqa: S603  (our own module, in our own interpreter)
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                bufsize=0,
                env={**os.environ, **_MALLOC, "PYTHONPATH": path},
            )
        except OSError as error:
            raise StepError(
                f"no process can be started for html_to_text ({error})",
                expected="to parse pages where a bad one does no harm",
                fix="allow processes, or --set html_to_text.sandbox=false",
            ) from error
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdin.fileno(), False)
        _widen(process.stdin.fileno(), process.stdout.fileno())
        self._process, self._ender = process, weakref.finalize(self, _end, process)
        return process


_REASONS: Final = {FAILED: REFUSED, OUT_OF_MEMORY: MEMORY}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.wait()


def _widen(*pipes: int) -> None:
    """Pipes that hold a few pages, where the system has a way to say so: fewer switches between the two."""
    import fcntl

    for pipe in pipes:
        try:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
        except (AttributeError, OSError):
            return
