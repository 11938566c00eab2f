"""Where tasks run: in this process, on a local Dask cluster made for the run, or on a Dask scheduler of the user's.

What enters: an iterator of tasks. What leaves: their records, in the order in which they end. Invariant: at most a
window of tasks is in flight, whatever their number; the first error cancels the rest; `close` leaves no process behind.
"""

from __future__ import annotations

import abc
import contextlib
import itertools
import logging
import os
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError, PreprocessError
from datapipe.preprocess.execute import WORKER_ENVIRONMENT, execute

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from datapipe.preprocess.tasks import Task, TaskRecord

DEATHS: Final = 3
"""How often a task may lose its worker before the run is stopped."""
IN_FLIGHT: Final = 2
"""Tasks per worker in flight: one that runs, one that waits, so that no worker idles for a round trip."""


class Engine(abc.ABC):
    """Runs tasks."""

    workers: int
    """How many run at a time."""

    @abc.abstractmethod
    def run(self, tasks: Iterable[Task]) -> Generator[TaskRecord, None, None]:
        """Records as they are done; the first error is raised and the rest of the tasks are given up."""

    @abc.abstractmethod
    def close(self) -> None:
        """End it, from any state."""


@final
class InlineEngine(Engine):
    """One task after the other, in this process."""

    workers = 1

    def run(self, tasks: Iterable[Task]) -> Generator[TaskRecord, None, None]:
        """See `Engine.run`."""
        for task in tasks:
            yield execute(task)

    def close(self) -> None:
        """Nothing is held."""


@final
class DaskEngine(Engine):
    """Tasks on Dask workers: the engine owns its client, and the cluster if it made one."""

    def __init__(self, client: Any, cluster: Any | None, workers: int) -> None:
        self._client = client
        self._cluster = cluster
        self.workers = workers

    def run(self, tasks: Iterable[Task]) -> Generator[TaskRecord, None, None]:
        """See `Engine.run`."""
        from distributed import as_completed

        waiting = iter(tasks)
        futures: dict[Any, Task] = {}
        done: Any = as_completed(loop=self._client.loop)  # type: ignore[no-untyped-call]
        try:
            for task in itertools.islice(waiting, self.workers * IN_FLIGHT):
                done.add(self._submit(task, futures))
            for future in done:
                task = futures.pop(future)
                record = _result(future, task)
                future.release()
                yield record
                following = next(waiting, None)
                if following is not None:
                    done.add(self._submit(following, futures))
        finally:
            if futures:
                with contextlib.suppress(Exception):
                    self._client.cancel(list(futures), force=True)

    def _submit(self, task: Task, futures: dict[Any, Task]) -> Any:
        # Earlier splits first, as a person watching expects; a key of our own, so that Dask hashes nothing.
        future = self._client.submit(execute, task, key=f"{task.name}-{task.key}", pure=False, priority=-task.split)
        futures[future] = task
        return future

    def close(self) -> None:
        """Close client and cluster; a scheduler that is not ours goes on."""
        with _quiet():
            with contextlib.suppress(Exception):
                self._client.close(timeout=5)
            if self._cluster is not None:
                with contextlib.suppress(Exception):
                    self._cluster.close(timeout=5)


def _result(future: Any, task: Task) -> TaskRecord:
    from distributed import CancelledError, KilledWorker

    try:
        record: TaskRecord = future.result()
    except KilledWorker:
        error = PreprocessError(
            f"{DEATHS + 1} workers died on one task",
            expected="a worker to live through it",
            fix="look for the system's out-of-memory killer; make output.split_bytes smaller, or use fewer workers",
        )
        error.add_note(f"stage {task.stage}, {task.name}, split {task.split}")
        raise error from None
    except CancelledError:
        raise PreprocessError(
            "the scheduler gave the tasks up",
            expected="the cluster to stay until the run ends",
            fix="run the same command again: what is done is kept",
        ) from None
    return record


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


def open_engine(workers: int | None, scheduler: str | None, *, splits: int) -> Engine:
    """The engine that was asked for.

    Args:
        workers: processes; 0: this process. None: one per core and split at most.
        scheduler: address of a Dask scheduler; then `workers` must be None.

    Raises:
        ConfigError: both are given, the scheduler does not answer, or there is no Dask.
    """
    if scheduler is not None and workers is not None:
        raise ConfigError(f"workers={workers} and scheduler={scheduler!r}", expected="one of the two")
    if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 0):
        raise ConfigError(f"workers={workers!r}", expected="a whole number from 0, or None for one per core")
    if scheduler is None:
        count = min(cores(), splits) if workers is None else workers
        # A cluster takes seconds to start: for a single split there is nothing to share out.
        if count == 0 or (workers is None and splits <= 1):
            return InlineEngine()
        return _local(count)
    return _remote(scheduler)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _settings() -> dict[str, Any]:
    return {
        "distributed.scheduler.allowed-failures": DEATHS,
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.nanny.environ": WORKER_ENVIRONMENT,
        # Polars counts its threads at import, so these must be there before the process runs any Python.
        "distributed.nanny.pre-spawn-environ": {**WORKER_ENVIRONMENT, "MALLOC_TRIM_THRESHOLD_": "65536"},
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.worker.profile.enabled": False,
        "distributed.worker.preload": ["datapipe.preprocess.worker_process"],
        "distributed.comm.timeouts.connect": "20s",
    }


def _local(count: int) -> Engine:
    dask, distributed = _dask()
    with _quiet(), dask.config.set(_settings()):
        try:
            cluster = distributed.LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                # No dashboard, and its web server on a free port of this machine alone.
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                host="127.0.0.1",
                silence_logs=logging.CRITICAL,
            )
        except (RuntimeError, OSError) as error:
            raise PreprocessError(
                f"the worker processes did not start ({error})",
                expected="a script that can be imported: worker processes import it",
                fix="put the call under `if __name__ == '__main__':`, or give workers=0",
            ) from error
        try:
            client = distributed.Client(cluster, set_as_default=False)
        except BaseException:
            cluster.close(timeout=5)
            raise
    return DaskEngine(client, cluster, count)


def _remote(scheduler: str) -> Engine:
    _, distributed = _dask()
    try:
        client = distributed.Client(scheduler, set_as_default=False, timeout=20)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"scheduler {scheduler}: no answer ({error})",
            expected="a Dask scheduler, such as tcp://host:8786",
            fix="start one with `dask scheduler`, or leave --scheduler out",
        ) from None
    try:
        client.wait_for_workers(1, timeout=20)
    except TimeoutError:
        client.close(timeout=5)
        raise ConfigError(
            f"scheduler {scheduler} has no worker",
            expected="at least one",
            fix=f"start them with `dask worker {scheduler} --nthreads 1 --nworkers auto`",
        ) from None
    return DaskEngine(client, None, sum(client.nthreads().values()))


def _dask() -> tuple[Any, Any]:
    try:
        import dask.config
        import distributed
    except ImportError as error:
        raise ConfigError(
            f"Dask is not installed ({error})",
            expected="the preprocess extra",
            fix="pip install 'datapipe-toolkit[preprocess]', or --workers 0",
        ) from None
    return dask, distributed


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Dask's loggers say nothing below an error of ours: what fails is raised."""
    names = (
        "distributed",
        "distributed.nanny",
        "distributed.worker",
        "distributed.scheduler",
        "distributed.core",
        "tornado",
    )
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
