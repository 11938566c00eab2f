"""Trying again: an action that may fail for a while enters, its result or its last error leaves.

Invariant: an error that is not transient is raised at once, and no attempt begins after the deadline. Waits grow
exponentially with full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): many workers
that a service turned away do not all come back at the same moment.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How long to go on.

    Attributes:
        attempts: at most so many, the first included.
        first_s: the upper bound of the first wait, in seconds; it doubles with each.
        longest_s: no wait is longer, in seconds.
        deadline_s: from the first attempt's start, in seconds: no wait ends, and so no attempt begins, after it.
    """

    attempts: int = 6
    first_s: float = 0.1
    longest_s: float = 8.0
    deadline_s: float = 60.0

    def call(
        self,
        action: Callable[[], Result],
        is_transient: Callable[[Exception], bool],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> Result:
        """The result of `action`, tried again while it raises what `is_transient` says will pass.

        Raises:
            Exception: whatever `action` raised last.
        """
        end = clock() + self.deadline_s
        for attempt in range(1, self.attempts):
            try:
                return action()
            except Exception as error:
                wait = self._wait(attempt, uniform)
                if not is_transient(error) or clock() + wait > end:
                    raise
            sleep(wait)
        return action()

    async def call_async(
        self,
        action: Callable[[], Awaitable[Result]],
        is_transient: Callable[[Exception], bool],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> Result:
        """The same on an event loop: many reads wait side by side, none of them in a thread."""
        end = clock() + self.deadline_s
        for attempt in range(1, self.attempts):
            try:
                return await action()
            except Exception as error:
                wait = self._wait(attempt, uniform)
                if not is_transient(error) or clock() + wait > end:
                    raise
            await sleep(wait)
        return await action()

    def _wait(self, attempt: int, uniform: Callable[[float, float], float]) -> float:
        # The exponent is bounded: 2.0 ** 1024 would be an error.
        return uniform(0, min(self.first_s * 2.0 ** min(attempt - 1, 64), self.longest_s))
