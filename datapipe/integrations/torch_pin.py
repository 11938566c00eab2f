"""Pinning: torch's copy of each batch into page-locked memory, on its own thread or inside the loop's wait.

What enters: `torch.utils.data` with `pin_memory=True` and an accelerator. What leaves: a "pin" span per batch, under
the batch's number.
Invariant: what is pinned, and what a failure raises, is as without it; a batch whose number is not known goes
unrecorded.
"""

from __future__ import annotations

import functools
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

    from datapipe.events import Recorder

PIN: Final = "pin"
_THREAD: Final = "DataLoader pin"
"""The pinning thread's name while it is watched: rings go to a thread of the same name once it ended, and torch starts
one each epoch."""


@final
class _Here(threading.local):
    item: int = -1


_here = _Here()


def next_pin(item: int) -> None:
    """The batch that this thread pins next; -1: it is not recorded."""
    _here.item = item


@final
class Pinning:
    """Watches torch's pinning in this process, until `undo` unwinds."""

    def __init__(self, recorder: Recorder, undo: contextlib.ExitStack) -> None:
        from torch.utils.data._utils import pin_memory

        self._numbers: dict[int, Callable[[int], int]] = {}
        stage = recorder.stage(PIN)
        pin: Any = pin_memory.pin_memory
        loop: Any = pin_memory._pin_memory_loop  # noqa: SLF001

        @functools.wraps(pin)
        def watched(*args: Any, **kwargs: Any) -> Any:
            item, _here.item = _here.item, -1  # it calls itself for what a batch holds
            if item < 0:
                return pin(*args, **kwargs)
            cpu, start = time.thread_time_ns(), time.perf_counter_ns()
            pinned = pin(*args, **kwargs)
            end = time.perf_counter_ns()
            recorder.ring().write(stage, item, start, start, end, end, cpu=time.thread_time_ns() - cpu)
            return pinned

        @functools.wraps(loop)
        def run(queue: Any, *args: Any) -> Any:
            threading.current_thread().name = _THREAD
            return loop(_Tasks(queue, self._numbers), *args)

        for name, made, original in (("pin_memory", watched, pin), ("_pin_memory_loop", run, loop)):
            setattr(pin_memory, name, made)
            undo.callback(setattr, pin_memory, name, original)

    def began(self, iterator: Any, number: Callable[[int], int]) -> None:
        """`number` gives the batch number of a task of this iterator's."""
        queue = getattr(iterator, "_worker_result_queue", None)
        if queue is not None:
            self._numbers[id(queue)] = number
            weakref.finalize(iterator, self._numbers.pop, id(queue), None).atexit = False


@final
class _Tasks:
    """The queue that the pinning thread takes batches from; what it takes is what it pins next."""

    def __init__(self, inner: Any, numbers: dict[int, Callable[[int], int]]) -> None:
        self._inner = inner
        self._numbers = numbers

    def get(self, *args: Any, **kwargs: Any) -> Any:
        message = self._inner.get(*args, **kwargs)
        number = self._numbers.get(id(self._inner))
        task = message[0] if isinstance(message, tuple) else None
        next_pin(number(task) if number is not None and isinstance(task, int) else -1)
        return message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
