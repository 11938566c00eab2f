"""The one task of a vocabulary stage: the samples of all splits → a tokenizer.

What enters: a `VocabularyTask`. What leaves: its record, after its file. Invariant: the tokenizer is a function of the
sampled texts and the options.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from datapipe.errors import PreprocessError
from datapipe.preprocess.rows_file import read_rows
from datapipe.preprocess.task_clock import TaskClock
from datapipe.preprocess.tasks import Task, TaskRecord
from datapipe.preprocess.work import WorkFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

_PARALLEL = "TOKENIZERS_PARALLELISM"


@final
@dataclass(frozen=True, kw_only=True)
class VocabularyTask(Task):
    """Train a vocabulary on the samples: `samples` are their paths, `options` the step's."""

    options: dict[str, Any]
    samples: tuple[str, ...] = field(repr=False)

    def run(self) -> TaskRecord:
        """See `Task.run`."""
        return run_vocabulary(self)


def run_vocabulary(task: VocabularyTask) -> TaskRecord:
    """Do the task; its file is stored, its record is returned (and not yet stored).

    Raises:
        PreprocessError: the samples hold no text to learn from.
    """
    from tokenizers import Tokenizer

    from datapipe.steps import find_step, options_from
    from datapipe.steps.vocabulary import train_vocabulary

    clock = TaskClock(task)
    store = task.output.open()
    rows = size = 0

    def texts() -> Iterator[str]:
        nonlocal rows, size
        for path in task.samples:
            for table in read_rows(store, path, ["text"]):
                rows += table.num_rows
                size += table.nbytes
                yield from table.column("text").to_pylist()

    # Every other worker waits for this task, so it may use their cores; the result does not depend on it.
    before = os.environ.get(_PARALLEL)
    os.environ[_PARALLEL] = "true"
    try:
        data = train_vocabulary(texts(), options_from(find_step("vocabulary"), task.options))
    finally:
        if before is None:
            del os.environ[_PARALLEL]
        else:
            os.environ[_PARALLEL] = before
    if not rows:
        raise PreprocessError(
            "the vocabulary's sample holds no document",
            expected="some text",
            fix="raise vocabulary.sample_bytes, or loosen the filters before it",
        )
    return clock.record(
        "vocabulary: train",
        rows_in=rows,
        rows_out=rows,
        bytes_in=size,
        files={"vocabulary": WorkFolder(store).put_bytes("vocabulary", task.key, data)},
        size=Tokenizer.from_str(data.decode()).get_vocab_size(),
    )
