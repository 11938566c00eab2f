"""A task that ended badly, run again under guard, until it comes through without the rows that end it.

What enters: a task. What leaves: the record of the task as it came through. Invariant: a row is blamed only if it does
harm alone, in a process of its own; what is found is written down before anything else, and left out for good.

The guarded task says which batch it is in. If it dies there, that batch is halved, each half is tried by itself, with
all that the task does, and so on, to the row. Halves are cut by position, so that the same rows are found every time.
"""

from __future__ import annotations

import dataclasses
import tempfile
from typing import TYPE_CHECKING, Final, final

from datapipe.errors import StepError
from datapipe.preprocess.encrypting import WITHHELD
from datapipe.preprocess.guard import Ended, Guard
from datapipe.preprocess.poison import MOST, STEP_RAISED, Poison, known, remember, without
from datapipe.preprocess.tasks import MapTask
from datapipe.preprocess.trial_store import TrialPlace
from datapipe.preprocess.work import WorkFolder

if TYPE_CHECKING:
    from datapipe.errors import DatapipeError
    from datapipe.preprocess.limits import Limits
    from datapipe.preprocess.tasks import Task, TaskRecord

NONE: Final = (2**32, 2**32)
"""Positions that no row has."""
AGAIN: Final = 2
"""How often a task may end badly with no row to blame: a machine that is short of memory may be so for a moment."""


def run_guarded(task: Task, limits: Limits, cause: DatapipeError | None = None) -> TaskRecord:
    """Run a task that has ended badly before.

    Args:
        task: as the plan has it. limits: of each process. cause: what it raised before, where it raised.

    Raises:
        DatapipeError: `cause`, or what it ends by now, where no row can be blamed for it.
    """
    work = WorkFolder(task.output.open())
    blameless = 0
    with Guard(limits) as guard, tempfile.TemporaryDirectory(prefix="datapipe-trial-", dir=work.scratch()) as scratch:
        while True:
            found = known(work, task.key)
            tried = without(task, found)
            ended = guard.run(tried)
            if ended.record is not None:
                return ended.record
            if not ended.reason or not isinstance(tried, MapTask):
                raise cause or ended.fault(task)
            search = _Search(guard, tried, scratch)
            new = search.in_place(ended)
            if not new:
                blameless += 1
                if blameless == AGAIN:
                    raise cause or ended.fault(task)
                continue
            if ended.reason == STEP_RAISED and ended.place and len(new) == search.rows > 1:
                raise cause or ended.fault(task)  # it raises for every row: that is not the rows' fault
            if len(found) + len(new) > MOST:
                error = cause or ended.fault(task)
                error.add_note(f"more than {MOST} rows of this task alone do it: it is the step, or the machine")
                raise error
            remember(work, task.key, [*found, *new])


@final
class _Search:
    """Finds the rows of one task that do harm alone."""

    def __init__(self, guard: Guard, task: MapTask, scratch: str) -> None:
        self._guard = guard
        place = TrialPlace(
            url=task.output.url, options=task.output.options, sealing=task.output.sealing, scratch=scratch
        )
        self._task = dataclasses.replace(task, output=place)
        self._left = MOST + 1
        self.rows = 0
        """How many rows the batch has in which the task ended."""

    def in_place(self, ended: Ended) -> list[Poison]:
        """What is to blame for how the task ended, where it did."""
        place = ended.place
        if place is None or place.kind == "end":
            return []
        if place.kind == "piece":
            return self._piece(place.low)
        skipped = {row.position for row in self._task.skip}
        self.rows = sum(position not in skipped for position in range(place.low, place.high))
        return self._among(place.low, place.high)

    def _piece(self, number: int) -> list[Poison]:
        """The piece, if it cannot be read by itself, with none of its rows run."""
        split = self._task.pieces
        assert split is not None
        piece = split.pieces[number]
        alone = dataclasses.replace(split, pieces=(piece,))
        ended = self._guard.run(dataclasses.replace(self._task, pieces=alone, only=NONE, skip=()), store=False)
        if not ended.reason:
            return []
        name = f"{piece.file.name}:{piece.start}"
        return [Poison(piece=number, row_id=name, step="read", reason=ended.reason, detail=self._told(ended.detail))]

    def _told(self, detail: str) -> str:
        """What is kept of how a row did harm: what a step says as it fails may hold the row."""
        return detail if self._task.output.sealing is None else WITHHELD

    def _among(self, low: int, high: int) -> list[Poison]:
        found: list[Poison] = []
        half = (low + high) // 2
        for start, end in ((low, half), (half, high)) if high - low > 1 else ((low, high),):
            if start == end or self._left <= 0:
                continue
            ended = self._guard.run(dataclasses.replace(self._task, only=(start, end)), store=False)
            if ended.record is not None:
                continue
            if not ended.reason:
                raise ended.error or StepError(ended.detail)
            if end - start > 1:
                found += self._among(start, end)
                continue
            self._left -= 1
            name = ended.place.name if ended.place is not None else ""
            detail = self._told(ended.error.got if ended.error is not None else ended.detail)
            step = ended.step or "read"
            found.append(Poison(position=start, row_id=name, step=step, reason=ended.reason, detail=detail))
        return found
