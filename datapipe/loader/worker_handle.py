"""The parent's end of one worker process: starting it, asking it, ending it.

What enters: values to ask. What leaves: its answers, or `Died`. Invariant: the process is a new interpreter, never a
fork of this one; it holds one end of a socket, and of a pipe that ends when this process does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any, Final, final

from datapipe.loader.payload import is_vast, send
from datapipe.loader.worker import get, put

_CODE: Final = "import sys; sys.path[:] = {path!r}; from datapipe.loader.worker import main; main({work}, {life})"


@final
class Died(Exception):  # noqa: N818  (not an error of its own: what is said of it depends on the batch)
    """The process is gone."""


@final
class SpareMemory:
    """Memory that answers were in which are gone: written again by the next ones. Threads share it.

    Args:
        most: pieces, those in use included: each has a descriptor.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lent = 0
        self._free: list[int] = []
        self._lock = threading.RLock()  # the collector may run `put_back` inside it
        self._closed = False
        self._needed = 0

    def needed(self, nbytes: int) -> None:
        """What an answer took: where it is far less than the one before, what is free is cut down to it."""
        with self._lock:
            before, self._needed = self._needed, nbytes
            for memory in self._free if before > nbytes else ():
                self._cut(memory)

    def _cut(self, memory: int) -> None:
        # One batch in many may be large: its pages would be held, in each of the pieces, to the loader's end.
        if is_vast(os.fstat(memory).st_size, self._needed):
            os.truncate(memory, self._needed)

    def take(self) -> int:
        """The descriptor of a piece, for its taker to close; -1: there is none."""
        with self._lock:
            if not self._free:
                return -1
            self._lent -= 1
            return self._free.pop()

    def lend(self) -> bool:
        """Whether a piece more may be kept open, to be put back when its value is gone."""
        with self._lock:
            fits = self._lent < self._most and not self._closed
            self._lent += fits
            return fits

    def not_lent(self) -> None:
        """Nothing came in the piece that was to be kept open."""
        with self._lock:
            self._lent -= 1

    def put_back(self, memory: int) -> None:
        """Nothing looks into it any more."""
        with self._lock:
            if not self._closed:
                self._cut(memory)
                self._free.append(memory)
                return
        os.close(memory)

    def close(self) -> None:
        """Let go of what is free, and of the rest as it is put back."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for memory in free:
            os.close(memory)


@final
class WorkerHandle:
    """One process, and the socket to it."""

    def __init__(self) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        life, self._life = os.pipe()
        self._lock = threading.Lock()
        self._memory = -1
        self.busy = True
        with theirs:
            try:
                code = _CODE.format(path=[p for p in sys.path if isinstance(p, str)], work=theirs.fileno(), life=life)
                self._process = subprocess.Popen(  # noqa: S603  (this interpreter)
                    [sys.executable, "-c", code],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), life),
                    # As torch's: as many processes as CPUs, each with as many threads, get in each other's way.
                    env={"OMP_NUM_THREADS": "1", **os.environ},
                )
            except BaseException:
                self._sock.close()
                os.close(self._life)
                raise
            finally:
                os.close(life)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def ask(self, value: Any, spare: SpareMemory) -> tuple[tuple[Any, ...], int]:
        """Its answer, and the bytes of that.

        Args:
            spare: memory to answer in.

        Raises:
            Died: it is gone.
        """
        used, self._memory = self._memory, -1
        self._memory, message = send(value, used)
        more = spare.take()
        try:
            put(self._sock, message, self._memory, more=more)
        except ConnectionError:
            raise Died from None
        finally:
            if more >= 0:
                os.close(more)
        lent = spare.lend()
        answer = get(self._sock, spare.put_back if lent else os.close)
        if answer is None:
            if lent:
                spare.not_lent()
            raise Died
        spare.needed(answer.nbytes)
        if not answer.free:  # a transform holds on to what it was given
            os.close(self._memory)
            self._memory = -1
        return answer.value, answer.nbytes

    def tell_to_end(self) -> None:
        """Wake whoever waits, on either side."""
        with contextlib.suppress(OSError):  # it is gone already
            self._sock.shutdown(socket.SHUT_RDWR)
        with self._lock:
            life, self._life = self._life, -1
        if life >= 0:
            os.close(life)

    def wait(self, until: float) -> str:
        """Wait for its end, by force after that moment (monotonic seconds): how it ended."""
        try:
            code = self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"

    def end(self, until: float) -> str:
        """End it. Called by the thread that used it, or once none does: the socket is closed under nobody."""
        self.tell_to_end()
        ended = self.wait(until)
        self._sock.close()
        used, self._memory = self._memory, -1
        if used >= 0:
            os.close(used)
        return ended


def preparation(pickled: bytes) -> dict[str, Any]:
    """What a new process needs to import what this one has: its paths and, if it is used, the main module."""
    from multiprocessing import spawn

    data: dict[str, Any] = spawn.get_preparation_data("datapipe-worker")  # as joblib does
    main = () if b"__main__" in pickled else ("init_main_from_name", "init_main_from_path")
    for name in ("authkey", "start_method", *main):
        data.pop(name, None)
    return data
