"""The worker process: runs a transform, or a collate function, for its parent's loader until that closes its socket.

What enters: payloads over a socket, and a pipe that ends when the parent does. What leaves: payloads, or errors.
Invariant: it holds no memory of one batch while it waits for the next; it outlives its parent by no more than it takes
to see the pipe's end, which its own thread waits for.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
import traceback
from typing import TYPE_CHECKING, Any, Final

from datapipe.loader.payload import MESSAGE, receive, send

if TYPE_CHECKING:
    from collections.abc import Mapping

READY: Final = "ready"
RESULT: Final = "result"
FAILED: Final = "failed"
INSIDE: Final = "DATAPIPE_WORKER"
"""Set within a worker: what the parent's script runs without a guard must not start workers of its own."""


def main(work: int, life: int) -> None:
    """Run until the parent closes the socket, or is gone.

    Args:
        work: descriptor of the socket. life: of a pipe that nobody writes to.
    """
    # A Ctrl-C goes to all processes of the terminal: the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(life,), name="datapipe-parent", daemon=True).start()
    with socket.socket(fileno=work) as sock:
        _serve(sock)
    # As multiprocessing's: what a parent's modules registered for their exit is not to be done once more here.
    os._exit(0)


def _end_with(life: int) -> None:
    os.read(life, 1)
    os._exit(0)


def _serve(sock: socket.socket) -> None:
    finishing: Any = None
    while True:
        found = get(sock)
        if found is None:
            return
        asked = found[0]
        try:
            if finishing is None:
                finishing = _begin(*asked)
                answer: tuple[Any, ...] = (READY,)
            else:
                answer = (RESULT, finishing.run(*asked)[0])
        except BaseException as error:
            answer = (FAILED, *_told(error))
        try:
            put(sock, answer)
        except (BrokenPipeError, ConnectionError):
            return
        except Exception as error:  # a result that cannot be pickled
            error.add_note("what a transform returns from a process must be made of arrays, tensors, tables and text")
            put(sock, (FAILED, *_told(error)))
        # Let go of the memory before waiting.
        found = asked = answer = ()  # type: ignore[assignment]  # of no use any more


def _begin(preparation: Mapping[str, Any], pickled: bytes) -> Any:
    from multiprocessing import spawn

    os.environ[INSIDE] = "1"
    spawn.prepare(dict(preparation))  # the paths, and perhaps the parent's main module
    return pickle.loads(pickled)  # noqa: S301  (from our parent)


def _told(error: BaseException) -> tuple[bytes | None, str, str]:
    """The error pickled, if it comes out of that again; in words; and its traceback."""
    text = "".join(traceback.format_exception(error))
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)  # noqa: S301  (just made)
    except Exception:
        pickled = None
    words = "".join(traceback.format_exception_only(error)).strip()
    return pickled, words, text


def put(sock: socket.socket, value: Any) -> None:
    """Send a value.

    Raises:
        ConnectionError: the other side is gone.
    """
    memory, message = send(value)
    try:
        socket.send_fds(sock, [message], [memory])
    finally:
        os.close(memory)


def get(sock: socket.socket) -> tuple[Any, int] | None:
    """(the next value, its bytes); None: the other side is gone."""
    message, memory = b"", -1
    while len(message) < MESSAGE.size:
        try:
            part, descriptors, _, _ = socket.recv_fds(sock, MESSAGE.size - len(message), 1)
        except ConnectionError:
            part, descriptors = b"", []
        memory = descriptors[0] if descriptors else memory
        if not part:
            if memory >= 0:
                os.close(memory)
            return None
        message += part
    return receive(memory, message), MESSAGE.unpack(message)[2]
