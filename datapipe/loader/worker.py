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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from datapipe.loader.payload import MESSAGE, receive, send

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable, Mapping

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
        asked, alive, memory = found.value, found.alive, found.more
        del found
        try:
            if finishing is None:
                finishing = _begin(*asked)
                answer: tuple[Any, ...] = (READY,)
            else:
                answer = (RESULT, finishing.run(*asked)[0])
        except BaseException as error:
            answer = (FAILED, *_told(error))
        try:
            memory, message = send(answer, memory)
        except Exception as error:  # a result that cannot be pickled
            error.add_note("what a transform returns from a process must be made of arrays, tensors, tables and text")
            memory, message = send((FAILED, *_told(error)))
        # Let go of what was asked: where nothing looks into its memory any more, that is used again.
        del asked, answer
        try:
            put(sock, message, memory, free=alive() is None)
        except ConnectionError:
            return
        finally:
            os.close(memory)


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Got:
    """A value that came.

    Attributes:
        alive: dead once nothing looks into its memory. nbytes: of that memory.
        free: the memory that was sent before may be used again. more: descriptor of memory to answer in, or -1.
    """

    value: Any
    alive: weakref.ref[Any]
    nbytes: int
    free: bool
    more: int


def put(sock: socket.socket, message: bytes, memory: int, *, free: bool = False, more: int = -1) -> None:
    """Send what `payload.send` made.

    Raises:
        ConnectionError: the other side is gone.
    """
    socket.send_fds(sock, [message + bytes([free])], [memory] if more < 0 else [memory, more])


def get(sock: socket.socket, gone: Callable[[int], None] = os.close) -> Got | None:
    """The next value; None: the other side is gone. `gone`: see `payload.receive`."""
    message, memory = b"", []
    while len(message) <= MESSAGE.size:
        try:
            part, descriptors, _, _ = socket.recv_fds(sock, MESSAGE.size + 1 - len(message), 2)
        except ConnectionError:
            part, descriptors = b"", []
        memory += descriptors
        if not part:
            for descriptor in memory:
                os.close(descriptor)
            return None
        message += part
    sent = message[: MESSAGE.size]
    value, alive = receive(memory[0], sent, gone)
    return Got(value=value, alive=alive, nbytes=MESSAGE.unpack(sent)[2], free=bool(message[-1]), more=[*memory, -1][1])
