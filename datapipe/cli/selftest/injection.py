"""What is put into a pipeline: a transform that sleeps, spins or leaks, as the loader calls it.

What enters: a `Pipe`. What leaves: a callable for batches, from any thread or, pickled, any process.
Invariant: the batch comes out as it went in; a spin takes CPU time of its own thread, so that a busy machine makes it
later and not lighter.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from datapipe.cli.selftest.pipe import Pipe

_CHUNK: Final = bytes(64 << 10)


def transform_of(pipe: Pipe) -> Callable[[Any], Any] | None:
    """The user's code of a pipe; None: it has none."""
    return Injected(pipe) if pipe.transform is not None or pipe.leak_kb else None


@final
class Injected:
    """A transform that takes the time, and keeps the memory, that its pipe says."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._calls = itertools.count(1)
        self._kept: list[bytearray] = []

    def __reduce__(self) -> tuple[type[Injected], tuple[Pipe]]:
        return Injected, (self._pipe,)

    def __call__(self, batch: Any) -> Any:
        """The same batch, later."""
        pipe = self._pipe
        if pipe.transform_ms:
            {None: sleep, "sleep": sleep, "spin": spin, "spin free": _spin_free}[pipe.transform](pipe.transform_ms)
        call = next(self._calls)
        if pipe.heavy_every and call % pipe.heavy_every == 0:
            sleep(pipe.heavy_ms)
        if pipe.leak_kb and (not pipe.leak_calls or call <= pipe.leak_calls):
            self._kept.append(bytearray(b"\x01") * (pipe.leak_kb << 10))
        return batch


def sleep(ms: float) -> None:
    """Off the core."""
    if ms > 0:
        time.sleep(ms / 1e3)


def spin(ms: float) -> None:
    """So much CPU time of this thread, in Python code: other threads wait for the interpreter lock."""
    until = time.thread_time_ns() + ms * 1e6
    while time.thread_time_ns() < until:
        sum(range(300))


def _spin_free(ms: float) -> None:
    """So much CPU time of this thread, in C code that lets go of the interpreter lock."""
    import hashlib

    until = time.thread_time_ns() + ms * 1e6
    while time.thread_time_ns() < until:
        hashlib.sha256(_CHUNK)
