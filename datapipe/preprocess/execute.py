"""What a worker does with a task: run it, store its record, and say clearly what went wrong.

What enters: a task. What leaves: its record. Invariant: the record is stored after the output, as the last thing;
every error that leaves is one of ours (so it crosses process boundaries whole) and names stage and split.
"""

from __future__ import annotations

import errno
import os
import traceback
from typing import TYPE_CHECKING, Final

from datapipe.errors import DatapipeError, NoSpaceError, StepError, StorageError

if TYPE_CHECKING:
    from datapipe.preprocess.tasks import Task, TaskRecord

WORKER_ENVIRONMENT: Final = {
    "POLARS_MAX_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "ARROW_NUM_THREADS": "1",
}
"""One layer of parallelism: a worker process is one thread of work. Polars reads its own before it is imported."""

_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)


def execute(task: Task) -> TaskRecord:
    """Run one task, whichever kind it is."""
    from datapipe.preprocess.work import WorkFolder

    try:
        record = task.run()
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
            full = NoSpaceError(
                f"no space left while writing ({error.strerror or error})", fix="free some and run again"
            )
            raise _noted(full, task, error) from None
        raise _noted(StorageError(f"{type(error).__name__}: {error}"), task, error) from error
    except Exception as error:
        raise _noted(StepError(f"{type(error).__name__}: {error}"), task, error) from error
    return record


def _noted(error: DatapipeError, task: Task, cause: BaseException) -> DatapipeError:
    """The error with its place; the cause itself does not cross process boundaries, so the last frames go along."""
    error.add_note(task.place())
    frames = traceback.extract_tb(cause.__traceback__)[-2:]
    error.add_note("raised at " + " ← ".join(f"{os.path.basename(f.filename)}:{f.lineno}" for f in reversed(frames)))  # noqa: PTH119
    return error
