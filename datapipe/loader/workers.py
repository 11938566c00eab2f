"""Processes for transforms that hold the interpreter lock: started once, kept over epochs, ended with the loader.

What enters: what is to be done to batches (pickled once), payloads from any thread. What leaves: their results.
Invariants:

- Processes are started afresh, never forked: no lock, thread or accelerator context of this one is in them.
- A thread hands its batch to a process that is free and waits for it, so no more batches are under way than there are
  processes, and they come back to the thread that knows their place.
- A process that dies is replaced, and its batch tried once more; then it is an error.
- `close` ends them within a second; so does the end of all who use them, and of this process, even by SIGKILL: then a
  pipe ends that each process listens to.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import socket
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ClosedError, ConfigError, LoaderError
from datapipe.loader.arguments import one_of
from datapipe.loader.crew import ends_at_exit
from datapipe.loader.worker import FAILED, INSIDE
from datapipe.loader.worker_handle import Died, SpareMemory, WorkerHandle, preparation

if TYPE_CHECKING:
    from datapipe.loader.finishing import Finishing, Job
    from datapipe.loader.transform import RowKeys

_LOG: Final = logging.getLogger("datapipe.loader.workers")
_GRACE: Final = 0.3
"""Seconds for a process to end by itself, before it is killed."""
_SPARE: Final = 4
"""Pieces of memory per process that are used again: the batch it makes, and those that are waited with or looked at."""


@final
class WorkerTraceback(Exception):  # noqa: N818  (a text that is shown above an error, as its cause)
    """Where in a worker process an error came from."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def hire(finishing: Finishing, workers: Any, number: int, loader: object) -> Workers | None:
    """The processes of a loader; None: there is nothing for them to do, or it is done in threads.

    Raises:
        ConfigError: another process cannot do it.
    """
    one_of("workers", workers, ("thread", "process"))
    if workers == "thread" or not (finishing.of_tables or finishing.of_batches):
        return None
    hired = Workers(pickled_once(finishing.of_processes()), number)
    hired.ends_with(loader)
    return hired


def pickled_once(finishing: Finishing) -> bytes:
    """The transform and the collate function as another process gets them.

    Raises:
        ConfigError: it cannot get them.
    """
    if not hasattr(socket, "send_fds"):
        raise ConfigError('workers="process" on a system without Unix sockets', fix='workers="thread"')
    if os.environ.get(INSIDE):
        raise ConfigError(
            'workers="process" within a worker process: it runs the script that holds the transform',
            fix='guard what the script does by `if __name__ == "__main__":`, or give the transform a module of its own',
        )
    fix = "write it as a function at the top of a module, and give it its options by functools.partial"
    try:
        pickled = pickle.dumps(finishing, protocol=5)
    except Exception as error:
        raise ConfigError(
            f'workers="process" with a transform or collate that cannot be pickled: {error}',
            expected="no lambda, no function within a function, no open file or lock",
            fix=fix,
        ) from error
    main = sys.modules.get("__main__")
    if b"__main__" in pickled and getattr(main, "__spec__", None) is None and not _is_script(main):
        raise ConfigError(
            'workers="process" with a transform of an interactive session, which no other process can import',
            fix=fix,
        )
    return pickled


def _is_script(main: Any) -> bool:
    path = getattr(main, "__file__", None)
    return path is not None and os.path.isfile(path)  # noqa: PTH113


@final
class Workers:
    """The worker processes of one loader; its threads share them.

    Args:
        pickled: from `pickled_once`. number: of processes, at most; each is started when there is work for it.
    """

    def __init__(self, pickled: bytes, number: int) -> None:
        self._pickled = pickled
        self._number = number
        self._spare = SpareMemory(_SPARE * number)
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._all: set[WorkerHandle] = set()
        self._idle: list[WorkerHandle] = []
        self._closed = False
        self._users = 0
        ends_at_exit(self)

    def ends_with(self, user: object) -> None:
        """End the processes once this object and all others that use them are gone."""
        with self._changed:
            self._users += 1
        weakref.finalize(user, self._left).atexit = False  # see `crew`

    def _left(self) -> None:
        with self._changed:
            self._users -= 1
            last = not self._users
        if last and self.abandon():
            self.join(time.monotonic())

    def run(self, job: Job, value: Any, keys: RowKeys) -> tuple[Any, int]:
        """What comes out of `Finishing.run` in a process, and the bytes of memory it shares with that.

        Raises:
            ClosedError: this was closed. LoaderError: two processes died of it.
            Exception: what it raised there, with that traceback as its cause.
        """
        try:
            return self._run((job, value, keys))
        except Died as first:
            _LOG.warning("a worker process ended %s; its batch is tried once more", first)
        try:
            return self._run((job, value, keys))
        except Died as second:
            raise LoaderError(
                f"two worker processes, one after the other, ended {second} while they made a batch",
                expected="a transform that leaves its process alive",
                fix="if it was for want of memory: a smaller batch_size, num_threads or memory_budget;"
                ' workers="thread" shows what else it may be',
            ) from None

    def _run(self, asked: tuple[Any, ...]) -> tuple[Any, int]:
        worker = self._take()
        try:
            answer, nbytes = worker.ask(asked, self._spare)
        except BaseException as error:
            # Died, or left in the midst of a batch: its next answer would not be ours.
            ended = self._retire(worker)
            if isinstance(error, Died):
                raise Died(ended) from None
            raise
        self._put_back(worker)
        if answer[0] == FAILED:
            raise _error_of(*answer[1:])
        return answer[1], nbytes

    def _take(self) -> WorkerHandle:
        """A process that is free, or a new one."""
        with self._changed:
            while not self._closed and not self._idle and len(self._all) >= self._number:
                self._changed.wait()
            if self._closed or os.getpid() != self._pid:
                raise _closed()
            if self._idle:
                worker = self._idle.pop()
                worker.busy = True
                return worker
            worker = WorkerHandle()
            self._all.add(worker)
        try:
            answer, _ = worker.ask((preparation(self._pickled), self._pickled), self._spare)
        except Died:
            ended = self._retire(worker)
            raise LoaderError(
                f"a worker process ended {ended} before it was ready", fix="see what it wrote to standard error"
            ) from None
        except BaseException:
            self._retire(worker)
            raise
        if answer[0] == FAILED:
            self._retire(worker)
            error = LoaderError(
                f"a worker process could not begin: {answer[2]}",
                expected="modules that can be imported in a new process",
                fix="put the transform into a module of its own that starts nothing when it is imported",
            )
            raise error from WorkerTraceback(answer[3])
        return worker

    def _put_back(self, worker: WorkerHandle) -> None:
        with self._changed:
            worker.busy = False
            if not self._closed:
                self._idle.append(worker)
                self._changed.notify()
                return
        worker.end(time.monotonic())

    def _retire(self, worker: WorkerHandle) -> str:
        ended = worker.end(time.monotonic() + _GRACE)
        with self._changed:
            self._all.discard(worker)
            self._changed.notify()
            if self._closed:
                raise _closed() from None
        return ended

    def pids(self) -> list[int]:
        """Of the processes that run now."""
        with self._changed:
            return [worker.pid for worker in self._all]

    def forked(self) -> None:
        """In a child of this process the processes are not its own, and a thread may have held the lock."""
        self._changed = threading.Condition()
        self._closed = True

    def abandon(self) -> bool:
        """Tell the processes to end; False if they had been told before, or are another process's."""
        if os.getpid() != self._pid:
            return False
        with self._changed:
            first = not self._closed
            self._closed = True
            workers = list(self._all)
            self._changed.notify_all()
        if first:
            for worker in workers:
                worker.tell_to_end()
        return first

    def join(self, until: float) -> None:
        """Wait for them until that moment (monotonic seconds), then kill them."""
        if os.getpid() != self._pid:
            return
        with self._changed:
            workers = list(self._all)
            self._all.clear()
        for worker in workers:
            worker.wait(until)
            if not worker.busy:
                worker.end(until)
        self._spare.close()

    def close(self) -> None:
        """End them, and wait for that."""
        if self.abandon():
            self.join(time.monotonic() + _GRACE)


def _closed() -> ClosedError:
    return ClosedError("this loader was closed", fix="make a new DataLoader")


def _error_of(pickled: bytes | None, words: str, text: str) -> BaseException:
    """The error that a process sent."""
    error: BaseException | None = None
    if pickled is not None:
        with contextlib.suppress(Exception):
            error = pickle.loads(pickled)  # noqa: S301  (from our own process)
    if error is None:
        error = LoaderError(f"a transform in a worker process raised {words}", expected="an error that can be pickled")
    error.__cause__ = WorkerTraceback(text)
    return error
