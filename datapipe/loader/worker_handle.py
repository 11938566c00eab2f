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

from datapipe.loader.worker import get, put

_CODE: Final = "import sys; sys.path[:] = {path!r}; from datapipe.loader.worker import main; main({work}, {life})"


@final
class Died(Exception):  # noqa: N818  (not an error of its own: what is said of it depends on the batch)
    """The process is gone."""


@final
class WorkerHandle:
    """One process, and the socket to it."""

    def __init__(self) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        life, self._life = os.pipe()
        self._lock = threading.Lock()
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

    def ask(self, value: Any) -> tuple[tuple[Any, ...], int]:
        """Its answer, and the bytes of that.

        Raises:
            Died: it is gone.
        """
        try:
            put(self._sock, value)
        except ConnectionError:
            raise Died from None
        answer = get(self._sock)
        if answer is None:
            raise Died
        return answer

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
        return ended


def preparation(pickled: bytes) -> dict[str, Any]:
    """What a new process needs to import what this one has: its paths and, if it is used, the main module."""
    from multiprocessing import spawn

    data: dict[str, Any] = spawn.get_preparation_data("datapipe-worker")  # as joblib does
    main = () if b"__main__" in pickled else ("init_main_from_name", "init_main_from_path")
    for name in ("authkey", "start_method", *main):
        data.pop(name, None)
    return data
