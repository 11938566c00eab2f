"""What a worker does with a task: run it, store its record, and say clearly what went wrong.

What enters: a task. What leaves: its record. Invariant: the record is stored after the output, as the last thing;
every error that leaves is one of ours (so it crosses process boundaries whole) and names stage and split.

While a task runs, a file in the work folder says so. One that is still there at the next run belongs to a task that
took its process with it: that task is run under guard.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import traceback
from typing import TYPE_CHECKING, Final

from datapipe.errors import DatapipeError, NoSpaceError, StepError, StorageError, in_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datapipe.preprocess.admission import Admission
    from datapipe.preprocess.limits import Limits
    from datapipe.preprocess.tasks import Task, TaskRecord
    from datapipe.preprocess.work import WorkFolder

WORKER_ENVIRONMENT: Final = {
    "POLARS_MAX_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "ARROW_NUM_THREADS": "1",
}
"""One layer of parallelism: a worker process is one thread of work. Polars reads its own before it is imported."""

_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)


def execute(task: Task, limits: Limits, *, suspect: bool = False, ends: bool = False) -> TaskRecord:
    """Run one task, whichever kind it is.

    Args:
        task: as the plan has it: poison that is known of is left out here.
        limits: of a process. suspect: it has taken a process with it, and is to run in one of its own.
        ends: this process, too, is ended beyond the limits.
    """
    from datapipe.preprocess.limits import watched
    from datapipe.preprocess.poison import known_task
    from datapipe.preprocess.poison_search import run_guarded
    from datapipe.preprocess.tasks import MapTask
    from datapipe.preprocess.work import WorkFolder

    work = WorkFolder(task.output.open())
    if suspect:
        record = run_guarded(task, limits)
        with contextlib.suppress(OSError):
            os.unlink(work.running(task.key) or "")  # noqa: PTH108
        return record
    try:
        with _marked(work, task.key), watched(limits, task.bytes) if ends else contextlib.nullcontext():
            return complete(known_task(task, work))
    except StepError as error:
        if not isinstance(task, MapTask):
            raise
        return run_guarded(task, limits, error)


def execute_in_worker(
    task: Task, limits: Limits, suspect: bool = False, admission: Admission | None = None
) -> TaskRecord:
    """The same on a Dask worker, whose process may be ended if it runs nothing else; `admission`: what it must have.

    A worker that is told to leave removes its scratch folder below the task it runs: what the task then meets says
    nothing of the task, which is another worker's from then on.
    """
    from distributed import Reschedule, Status, get_worker

    from datapipe.preprocess.work import OF_WORKER

    worker = get_worker()
    if admission is not None:
        from datapipe.preprocess.admission import admit

        admit(admission, worker.address, worker.local_directory)
    OF_WORKER.set(worker.local_directory)
    try:
        # Of several threads of one process none can be ended alone.
        return execute(task, limits, suspect=suspect, ends=worker.state.nthreads == 1)
    except (DatapipeError, OSError) as error:  # an OSError: of the folder in which a task is looked at under guard
        if worker.status in {Status.running, Status.paused}:
            raise
        raise Reschedule from error


def complete(task: Task, *, store: bool = True) -> TaskRecord:
    """Run a task to its end; `store`: and store its record.

    Raises:
        DatapipeError: with the task's place in its notes.
    """
    from datapipe.preprocess.sealed_file import sealed
    from datapipe.preprocess.work import WorkFolder

    try:
        with sealed(task.output.secret()):
            record = task.run()
        if store:
            WorkFolder(task.output.open()).finish(record)
    except DatapipeError as error:
        error.add_note(task.place())
        raise
    except MemoryError as error:
        short = StepError("out of memory", fix="make output.split_bytes smaller, or use fewer workers")
        raise _noted(short, task, error) from error
    except OSError as error:
        # Scratch files are written by Arrow, outside of any Store.
        if error.errno in _NO_SPACE or "No space left" in str(error):
            where = error.filename or task.output.open().url
            full = NoSpaceError(
                f"no space left while writing to {where} ({error.strerror or error})", fix="free some and run again"
            )
            raise _noted(full, task, error) from None
        raise _noted(StorageError(in_words(error)), task, error) from error
    except BaseException as error:
        # A step's `sys.exit()` would end a run without workers there and then, and with exit code 0.
        if isinstance(error, KeyboardInterrupt) or _of_a_signal(error):
            raise
        raise _noted(StepError(in_words(error)), task, error) from error
    return record


def _of_a_signal(error: BaseException) -> bool:
    """Whether the handler of a signal raised it: then somebody means to end this process."""
    handlers = (signal.getsignal(number) for number in signal.valid_signals())
    codes = [code for handler in handlers if (code := getattr(handler, "__code__", None)) is not None]
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))


@contextlib.contextmanager
def _marked(work: WorkFolder, key: str) -> Iterator[None]:
    """A file that says the task is running; on remote outputs there is none."""
    path = work.running(key)
    if path is None:
        yield
        return
    with contextlib.suppress(OSError), open(path, "w"):  # noqa: PTH123
        pass
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108


def _noted(error: DatapipeError, task: Task, cause: BaseException) -> DatapipeError:
    """The error with its place; the cause itself does not cross process boundaries, so the last frames go along."""
    error.add_note(task.place())
    frames = traceback.extract_tb(cause.__traceback__)[-2:]
    error.add_note("raised at " + " ← ".join(f"{os.path.basename(f.filename)}:{f.lineno}" for f in reversed(frames)))  # noqa: PTH119
    return error
