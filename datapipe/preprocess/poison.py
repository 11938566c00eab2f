"""Poison: rows that end the process that runs them, or make a step raise. What is known of them, kept beside the work.

    _work/poison/<key>.json     the rows that the task of this key leaves out

What enters: a task, and rows that were found. What leaves: the task that leaves them out. Invariant: what was found
once is never run again, whatever is killed, so that every later run makes the same bytes; a task without poison has the
key it always had.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import NotFoundError, PreprocessError
from datapipe.preprocess.recipe import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

    from datapipe.preprocess.tasks import MapTask, Task
    from datapipe.preprocess.work import WorkFolder

WORKER_KILLED: Final = "worker_killed"
STEP_HUNG: Final = "step_hung"
OUT_OF_MEMORY: Final = "out_of_memory"
STEP_RAISED: Final = "step_raised"
REASONS: Final = (WORKER_KILLED, STEP_HUNG, OUT_OF_MEMORY, STEP_RAISED)
"""What a poison row is quarantined by."""
MOST: Final = 16
"""Poison rows of one task: with more it is the step, or the machine, and the run ends with the error itself."""


@final
@dataclass(frozen=True, kw_only=True)
class Poison:
    """One poison row, or a piece of the corpus that cannot be read without harm.

    Attributes:
        position: of the row among those that the task reads, from 0; -1: it is a piece.
        piece: its number among the task's pieces.
        row_id: of the row, or the place where the piece begins.
        step: that it went through; "read" for a piece.
        reason, detail: one of `REASONS`, and in words.
    """

    position: int = -1
    piece: int = -1
    row_id: str
    step: str
    reason: str
    detail: str


@final
@dataclass(frozen=True, kw_only=True)
class PoisonRow:
    """A poison row as a run tells of it: as `Poison`."""

    row_id: str
    step: str
    reason: str
    detail: str


def poison_error(row: PoisonRow) -> PreprocessError:
    """What ends a run that is to stop at the first."""
    error = PreprocessError(
        f"{row.row_id}: {row.reason} ({row.detail})",
        expected="no row that does harm (on_error is 'stop')",
        fix="repair or remove the row, or count bad rows instead: --on-error quarantine",
    )
    error.add_note(f"step {row.step}")
    return error


def poison_file(key: str) -> str:
    """Where the poison of a task is kept, by the key that the task has without it."""
    from datapipe.preprocess.work import WORK

    return f"{WORK}/poison/{key}.json"


def known(work: WorkFolder, key: str) -> tuple[Poison, ...]:
    """What was found in a task so far; nothing where the file is damaged: it is found anew."""
    from datapipe.storage import checksum_bytes

    try:
        raw = json.loads(work.store.read(poison_file(key)))
        if raw["check"] != checksum_bytes(canonical(raw["rows"])):
            return ()
        return tuple(Poison(**row) for row in raw["rows"])
    except (NotFoundError, ValueError, TypeError, KeyError):
        return ()


def remember(work: WorkFolder, key: str, rows: Iterable[Poison]) -> None:
    """Write down what was found in a task."""
    from datapipe.storage import checksum_bytes

    plain: list[dict[str, Any]] = [dataclasses.asdict(row) for row in rows]
    data = json.dumps({"check": checksum_bytes(canonical(plain)), "rows": plain}, ensure_ascii=False)
    work.store.put(poison_file(key), data.encode("utf-8", "surrogatepass"))


def keys_with_poison(work: WorkFolder) -> frozenset[str]:
    """The keys of the tasks in which some was found."""
    from datapipe.preprocess.work import WORK

    return frozenset(entry.path.rpartition("/")[2].removesuffix(".json") for entry in work.store.list(f"{WORK}/poison"))


def without(task: Task, rows: Sequence[Poison]) -> Task:
    """The task that leaves the rows out; the task itself where there are none."""
    from datapipe.preprocess.tasks import MapTask, task_key

    if not rows or not isinstance(task, MapTask):
        return task
    skip = tuple(sorted(rows, key=lambda row: (row.piece, row.position)))
    return dataclasses.replace(
        task, skip=skip, key=task_key("poison", [task.key, [dataclasses.asdict(r) for r in skip]])
    )


def known_task(task: MapTask | Task, work: WorkFolder) -> Task:
    """The task without the poison that is known of."""
    return without(task, known(work, task.key))


def spared(
    table: pa.Table, start: int, rows: Sequence[Poison], only: tuple[int, int] | None = None
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """A batch without the poison among its rows.

    Args:
        table: with `row_id`. start: the number of its first row, in its task. rows: what to leave out.
        only: [low, high): leave out all other rows too, and say nothing of them.

    Returns:
        The rows that are left; of the poison, `row_id, step, kind, reason, detail`, all string; and its rows.
    """
    import numpy as np
    import pyarrow as pa

    n = table.num_rows
    found = sorted((row for row in rows if start <= row.position < start + n), key=lambda row: row.position)
    stays = np.ones(n, bool)
    stays[[row.position - start for row in found]] = False
    gone = table.filter(pa.array(~stays))
    if only is not None:
        numbers = np.arange(start, start + n)
        stays &= (numbers >= only[0]) & (numbers < only[1])
    marks = {
        "row_id": gone.column("row_id").cast(pa.string()),
        "step": pa.array([row.step for row in found], pa.string()),
        "kind": pa.array(["quarantine"] * len(found), pa.string()),
        "reason": pa.array([row.reason for row in found], pa.string()),
        "detail": pa.array([row.detail for row in found], pa.string()),
    }
    return table.filter(pa.array(stays)), pa.table(marks), gone
