"""Reading byte ranges side by side: ranges enter, their bytes leave, in the time of the slowest request, not of all.

Invariants: every range comes whole, or an error; no more than `PARALLEL` requests to one host at a time, over all
stores of this process; each request is tried again by itself until its deadline; one that is late is sent twice, within
the bounds of `latencies`, and the first answer wins. Nothing here writes.

All of it runs on fsspec's event loop, one thread for any number of requests: four threads with blocking sockets moved
186 MB/s of a 200 MB/s link with 20 ms to the first byte, eight requests on the loop 199 (measured on 2 cores).
"""

from __future__ import annotations

import asyncio
import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.storage.cancelling import result_of
from datapipe.storage.latencies import Latencies
from datapipe.storage.remote_faults import is_transient
from datapipe.storage.remote_requests import ShortError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from datapipe.storage.remote_requests import Answer, Request, Span
    from datapipe.storage.retry import Retry
    from datapipe.storage.store import Entry, Parts

PARALLEL: Final = 32
PART: Final = 4 << 20
"""A longer range is asked for in parts of about this size: one S3 connection gives 50 to 100 MB/s, and a lost part
costs less; but each request costs 2 ms of CPU to sign and to send (botocore)."""
DEFAULT_GAP: Final = 1 << 20
"""20 ms to the first byte × 50 MB/s on one connection."""
LEAST_GAP: Final = 64 << 10
MOST_GAP: Final = 4 << 20

_LIMITS: dict[tuple[int, str], asyncio.Semaphore] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_LIMITS.clear)  # what the parent's requests hold, they hold for ever there


@dataclass(kw_only=True)
class ReadCounts:
    """Requests sent, of them tried again after a fault, sent as hedges, hedges that won; bytes delivered."""

    requests: int = 0
    retries: int = 0
    hedges: int = 0
    hedges_won: int = 0
    bytes: int = 0


@final
class RemoteReads:
    """The reads of one store.

    Args:
        request: one request for one range. loop: fsspec's. host: whose limit of requests is shared.
    """

    def __init__(self, request: Request, loop: asyncio.AbstractEventLoop, *, host: str, retry: Retry) -> None:
        self._request = request
        self._loop = loop
        self._host = host
        self._retry = retry
        self._latencies = Latencies()
        self.counts = ReadCounts()

    @property
    def gap(self) -> int:
        """Bytes worth reading past rather than asking once more, from what requests have taken so far."""
        return self._latencies.break_even(LEAST_GAP, MOST_GAP) or DEFAULT_GAP

    def ranges(self, where: str, spans: Sequence[tuple[int, int]], pinned: Entry | None) -> Parts:
        """The bytes of each [start, end), from any thread but the loop's.

        Raises:
            IntegrityError: another version than `pinned`, or an object that ends before a range does.
            Exception: the library's own, once it was tried as often as may be.
        """
        parts: Parts = self._wait(self._all(where, spans, pinned))
        return parts

    def one(self, where: str, span: Span, pinned: Entry | None = None) -> Answer:
        """The answer to one range as it is: to the end (None), or the last n bytes (-n, None)."""
        answer: Answer = self._wait(self._retried(where, span, pinned))
        return answer

    def _wait(self, work: Any) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return result_of(future)
        except BaseException:
            future.cancel()  # Ctrl-C, in the main thread
            raise

    async def _all(self, where: str, spans: Sequence[tuple[int, int]], pinned: Entry | None) -> Parts:
        if len(spans) == 1:
            return [await self._range(where, spans[0], pinned)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._range(where, span, pinned)) for span in spans]
        return [task.result() for task in tasks]

    async def _range(self, where: str, span: tuple[int, int], pinned: Entry | None) -> bytes | bytearray:
        start, end = span
        count = round((end - start) / PART)
        if count <= 1:
            answer = await self._retried(where, span, pinned)
            return answer.chunks[0] if len(answer.chunks) == 1 else b"".join(answer.chunks)
        whole = memoryview(bytearray(end - start))
        cuts = [(end - start) * i // count for i in range(count + 1)]

        async def part(low: int, high: int) -> None:
            answer = await self._retried(where, (start + low, start + high), pinned)
            at = low
            for chunk in answer.chunks:
                whole[at : at + len(chunk)] = chunk
                at += len(chunk)

        async with asyncio.TaskGroup() as group:
            for low, high in itertools.pairwise(cuts):
                group.create_task(part(low, high))
        assert isinstance(whole.obj, bytearray)
        return whole.obj

    async def _retried(self, where: str, span: Span, pinned: Entry | None) -> Answer:
        def passes(error: Exception) -> bool:
            again = is_transient(error)
            self.counts.retries += again
            return again

        answer = await self._retry.call_async(lambda: self._hedged(where, span, pinned), passes)
        start, end = span
        if end is not None and answer.size != end - start:
            raise ShortError(start, end, start + answer.size)
        self.counts.bytes += answer.size
        return answer

    async def _hedged(self, where: str, span: Span, pinned: Entry | None) -> Answer:
        limit = _LIMITS.setdefault((id(self._loop), self._host), asyncio.Semaphore(PARALLEL))
        async with limit:
            start, end = span
            late = None if end is None else self._latencies.hedge_after(end - start)
            begun = asyncio.Event()
            first = self._send(where, span, pinned, begun)
            if late is None:
                return await first
            tasks = [_started(first)]
            try:
                done, _ = await asyncio.wait(tasks, timeout=late[0])
                if not done and begun.is_set():
                    done, _ = await asyncio.wait(tasks, timeout=late[1] - late[0])
                if done or limit.locked() or not self._latencies.spend():
                    return await tasks[0]
                self.counts.hedges += 1
                async with limit:
                    tasks.append(_started(self._send(where, span, pinned, asyncio.Event())))
                    return await self._first_of(tasks)
            finally:
                for task in tasks:
                    task.cancel()

    async def _first_of(self, tasks: list[asyncio.Task[Answer]]) -> Answer:
        """The first answer; where both fail, the first one's error."""
        open_ = set(tasks)
        while open_:
            done, open_ = await asyncio.wait(open_, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.exception():
                    self.counts.hedges_won += task is tasks[1]
                    return task.result()
        return tasks[0].result()

    async def _send(self, where: str, span: Span, pinned: Entry | None, begun: asyncio.Event) -> Answer:
        self.counts.requests += 1
        answer = await self._request(where, span, pinned, begun)
        self._latencies.add(answer.size, answer.first_s, answer.whole_s)
        return answer


def _started(work: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # the loser's is nobody's concern
    return task
