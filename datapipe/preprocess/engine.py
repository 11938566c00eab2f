"""Where tasks run: in this process, on a local Dask cluster made for the run, or on a Dask scheduler of the user's.

What enters: an iterator of tasks. What leaves: each with its record, in the order in which they end. Invariant: at most
a window of tasks is in flight, whatever their number; the first error cancels the rest; `close` leaves no process
behind.

A worker that dies takes with it the task that it ran, and the one that waited: Dask blames both. Both are run again
under guard (`poison_search`), where a task that dies takes nothing with it but a process of its own. A worker that
lives and is silent is ended (`silence`), and then it is the same. In this process
there is nothing to replace: a task that ends it is guarded at the next run (`WorkFolder.interrupted`).
"""

from __future__ import annotations

import abc
import contextlib
import itertools
import os
import queue
import time
import uuid
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError, DatapipeError, PreprocessError, in_words
from datapipe.preprocess.admission import admit_all
from datapipe.preprocess.clusters import client_of, dashboard_of, local_cluster, quiet
from datapipe.preprocess.execute import execute, execute_in_worker
from datapipe.preprocess.limits import Limits
from datapipe.preprocess.scheduler import Scheduler
from datapipe.preprocess.silence import Silence
from datapipe.storage import mask

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable

    from datapipe.preprocess.admission import Admission
    from datapipe.preprocess.tasks import Task, TaskRecord

DEATHS: Final = 3
"""How often a task may lose its worker while it is guarded: then it is not the task's doing, and the run is stopped."""
IN_FLIGHT: Final = 2
"""Tasks per worker in flight: one that runs, one that waits, so that no worker idles for a round trip."""
AT_ONCE: Final = 256
"""Tasks in one message to the scheduler, at most."""
LOOK: Final = 5.0
"""Seconds between two looks at the cluster while no task ends."""
ALONE: Final = 120.0
"""Seconds that a run waits for a worker where all are gone: a nanny needs a few to start a new one."""


class Engine(abc.ABC):
    """Runs tasks.

    Attributes:
        workers: how many run at a time. limits: of each process.
        dashboard: address where the scheduler shows itself to a browser; None where it does not.
    """

    workers: int
    limits: Limits
    dashboard: str | None = None

    @abc.abstractmethod
    def run(
        self, tasks: Iterable[Task], suspects: Collection[str] = ()
    ) -> Generator[tuple[Task, TaskRecord], None, None]:
        """Tasks and records as they are done; the first error is raised and the rest of the tasks are given up.

        Args:
            tasks: what to do. suspects: keys of those that are to be guarded from the start.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """End it, from any state."""


@final
class InlineEngine(Engine):
    """One task after the other, in this process."""

    workers = 1

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()

    def run(
        self, tasks: Iterable[Task], suspects: Collection[str] = ()
    ) -> Generator[tuple[Task, TaskRecord], None, None]:
        """See `Engine.run`."""
        for task in tasks:
            yield task, execute(task, self.limits, suspect=task.key in suspects)

    def close(self) -> None:
        """Nothing is held."""


@final
class DaskEngine(Engine):
    """Tasks on Dask workers: the engine owns its client, and the cluster if it made one."""

    def __init__(
        self, client: Any, cluster: Any | None, workers: int, limits: Limits, admission: Admission | None = None
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._looked = time.monotonic()
        self._seen = self._looked
        self._silence = Silence(cluster) if cluster is not None else None
        self._largest = 0
        self._admission = admission
        # Names are the scheduler's, and it may serve another run of these tasks with another output, or still have one
        # of a run that was killed.
        self._run = uuid.uuid4().hex[:12]
        self.workers = workers
        self.limits = limits

    def run(
        self, tasks: Iterable[Task], suspects: Collection[str] = ()
    ) -> Generator[tuple[Task, TaskRecord], None, None]:
        """See `Engine.run`."""
        waiting = iter(tasks)
        futures: dict[Any, tuple[Task, int]] = {}
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def submit(batch: list[tuple[Task, int]]) -> None:
            # One message for all that are due: what a task costs the scheduler is mostly taking a graph in. Keys of our
            # own, so that Dask hashes nothing; earlier splits first, as a person watching expects.
            self._largest = max(self._largest, *(task.bytes for task, _ in batch))
            made = self._client.map(
                execute_in_worker,
                [task for task, _ in batch],
                suspect=any(deaths > 0 or task.key in suspects for task, deaths in batch),
                limits=self.limits,
                admission=self._admission,
                key=[f"{task.name}-{task.key}-{deaths}-{self._run}" for task, deaths in batch],
                pure=False,
                priority=-batch[0][0].split,
            )
            for future, due in zip(made, batch, strict=True):
                futures[future] = due
                future.add_done_callback(done.put)

        def fill() -> None:
            room = self.workers * IN_FLIGHT - len(futures)
            batch = [(task, 0) for task in itertools.islice(waiting, max(0, room))]
            for _, same in itertools.groupby(batch, key=lambda due: due[0].key in suspects):
                alike = list(same)
                for start in range(0, len(alike), AT_ONCE):
                    submit(alike[start : start + AT_ONCE])

        try:
            fill()
            while futures:
                try:
                    ended = [done.get(timeout=LOOK)]
                except queue.Empty:
                    self._look()
                    fill()
                    continue
                while not done.empty():
                    ended.append(done.get_nowait())
                gathered = self._gathered(ended)
                for future in ended:
                    task, deaths = futures.pop(future)
                    record = gathered.get(future) or self._result(future, task, deaths)
                    future.release()
                    if record is None:
                        submit([(task, deaths + 1)])
                        continue
                    yield task, record
                if time.monotonic() - self._looked > LOOK:
                    self._look()
                fill()
        finally:
            if futures:
                with contextlib.suppress(Exception):
                    self._client.cancel(list(futures), force=True)

    def _gathered(self, ended: list[Any]) -> dict[Any, TaskRecord]:
        """The records of several tasks that are done, by one request; nothing where one of them cannot be had."""
        good = [future for future in ended if future.status == "finished"]
        if len(good) > 1:
            # What failed is told by `_result`; that a lost worker's record is made again, by nobody.
            with quiet(), contextlib.suppress(Exception):
                return dict(zip(good, self._client.gather(good), strict=True))
        return {}

    def _result(self, future: Any, task: Task, deaths: int) -> TaskRecord | None:
        """The record; None where the task lost its worker, and is to be run again."""
        from distributed import CancelledError, KilledWorker

        try:
            record: TaskRecord = future.result()
        except KilledWorker:
            if deaths < DEATHS:
                return None
            error = PreprocessError(
                f"workers died on one task again and again, {deaths} times while it ran in a process of its own",
                expected="workers that live",
                fix="look for the system's out-of-memory killer, or whatever ends the workers",
            )
            error.add_note(task.place())
            raise error from None
        except CancelledError:
            raise self._lost() from None
        except DatapipeError:
            raise
        except Exception as error:
            unfit = PreprocessError(
                f"a worker could not take a task up ({in_words(error)})",
                expected="workers with the installation that the run was started with",
                fix="install the same package versions on every worker, and run again: what is done is kept",
            )
            unfit.add_note(task.place())
            raise unfit from None
        return record

    def _look(self) -> None:
        """Count the workers: those that came are used; without any, or without a scheduler, the run ends."""
        self._looked = time.monotonic()
        if self._client.status != "running":
            raise self._lost()
        if self._cluster is None:
            try:
                self.workers = max(1, there := sum(self._client.nthreads().values()))
            except (OSError, TimeoutError):
                raise self._lost() from None
        else:
            there = len(self._cluster.scheduler.workers)
            assert self._silence is not None
            self._silence.end_silent(self.limits, self._largest)
        if there:
            self._seen = self._looked
        elif self._looked - self._seen > ALONE:
            raise PreprocessError(
                f"no worker is left, for {ALONE:g} s",
                expected="at least one",
                fix="start workers, and run the same command again: what is done is kept",
            )

    def _lost(self) -> PreprocessError:
        return PreprocessError(
            "the scheduler is gone, or gave the tasks up",
            expected="the cluster to stay until the run ends",
            fix="run the same command again: what is done is kept",
        )

    def close(self) -> None:
        """Close client and cluster; a scheduler that is not ours goes on."""
        with quiet():
            with contextlib.suppress(Exception):
                self._client.close(timeout=5)
            with contextlib.suppress(Exception):
                if self._admission is not None:
                    self._admission.remove_sign()
            if self._cluster is not None:
                with contextlib.suppress(Exception):
                    self._cluster.close(timeout=5)


def refuse_inside_worker() -> None:
    """A worker process imports the user's script: one that preprocesses when imported would start workers forever.

    Raises:
        ConfigError: this process is importing the script of another one.
    """
    import multiprocessing

    # There is no public name for it; where it is missing, Dask's own start-up fails, with less of a reason.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigError(
            "preprocess was called while a worker process imported your script",
            expected="the call under `if __name__ == '__main__':`",
            fix="move it there, or give workers=0",
        )


def open_engine(
    workers: int | None,
    scheduler: str | Scheduler | None,
    *,
    splits: int,
    limits: Limits | None = None,
    foreign: bool = False,
    admission: Callable[[], Admission] | None = None,
) -> Engine:
    """The engine that was asked for.

    Args:
        workers: processes; 0: this process. None: one per core and split at most.
        scheduler: a Dask scheduler; then `workers` must be None.
        splits: how many tasks there are at most. limits: of each process.
        foreign: a step is the user's own: it may hang or die, so by default it has a process even for one split.
        admission: what the workers of a scheduler must have; None: they are not asked.

    Raises:
        ConfigError: both are given, the scheduler does not answer or may not be spoken to, a worker is not fit, or
            there is no Dask.
    """
    if scheduler is not None and workers is not None:
        raise ConfigError(f"workers={workers} and scheduler={mask(repr(scheduler))}", expected="one of the two")
    if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 0):
        raise ConfigError(f"workers={workers!r}", expected="a whole number from 0, or None for one per core")
    limits = limits or Limits()
    if scheduler is None:
        count = min(cores(), splits) if workers is None else workers
        # A cluster takes seconds to start: for a single split there is nothing to share out, and our own steps do not
        # end their process.
        if count == 0 or (workers is None and splits <= 1 and not foreign):
            return InlineEngine(limits)
        client, cluster = local_cluster(max(1, count))
        return DaskEngine(client, cluster, max(1, count), limits)
    client = client_of(scheduler if isinstance(scheduler, Scheduler) else Scheduler(scheduler))
    asked = admission() if admission is not None else None
    engine = DaskEngine(client, None, sum(client.nthreads().values()), limits, asked)
    try:
        if asked is not None:
            asked.put_sign()
            admit_all(client, asked)
    except BaseException:
        engine.close()
        raise
    engine.dashboard = dashboard_of(client)
    return engine


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
