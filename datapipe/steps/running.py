"""Run steps one after the other over one Arrow table, and account for every row.

What enters: a table with `row_id`, and bound steps. What leaves: the rows that came through, a table of the rows that
were marked, each with its step and reason, what was measured of each row, and what each step took in, gave and cost.
Invariant: rows in = rows out + marked rows (a `reshape` step apart); rows keep their order; a step that adds, removes
or reorders rows, marks a reason or adds a column that it has not declared, is stopped.

Rows that a step marks are taken out before the next. Steps with a `judge` that stand side by side are measured on the
same rows: a row that the first marks is still measured by the others, and its reason is that of the first. So a
threshold of one of them can be changed afterwards, and what the others say of the rows it lets pass is known.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from datapipe.errors import DatapipeError, StepError, in_words
from datapipe.steps.columns import classic
from datapipe.steps.cpu_time import spent
from datapipe.steps.row_fates import RowFates
from datapipe.steps.step_checks import check_input, check_output, culprit, note

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from datapipe.steps.registry import BoundStep
    from datapipe.steps.step import Keys


@dataclass(frozen=True, kw_only=True)
class StepRun:
    """What one step did: rows in and out (marked rows are not out), bytes of the table it was given, CPU seconds.

    A row that an earlier step of the same judged group marked is in `rows_measured`, the bytes and the seconds, not in
    `rows_in`.
    CPU seconds are the process's, all threads: polars and tokenizers work on threads of their own. So they are right
    in a worker that runs one task at a time, and too high where others compute beside it.
    """

    name: str
    rows_in: int
    rows_out: int
    bytes_in: int
    cpu_seconds: float
    rows_measured: int


@dataclass(frozen=True, kw_only=True)
class Ran:
    """The outcome of `run_steps`.

    Attributes:
        table: the rows that came through.
        marked: `row_id, step, kind ("drop" | "quarantine"), reason, detail`, all string, in the order of the steps;
            of one step, quarantined rows come first. detail is null where the step said nothing.
        per_step: one entry per step, in order.
        counters: the steps' counters, summed over all rows that they measured.
    """

    table: pa.Table
    marked: pa.Table
    per_step: tuple[StepRun, ...]
    counters: dict[str, int] = field(default_factory=dict)
    fates: RowFates = field(repr=False, compare=False)

    @property
    def signals(self) -> pa.Table:
        """What became of each row: one row per row of the input, in its order. Made when asked for.

        Columns: `row_id`; `step, kind, reason, detail`, null where the row came through; each signal, and the columns
        of `LABELS`, null where the row was not measured ("<signal>#2" of a step that comes twice). Of steps after a
        `reshape` step nothing is here: their rows are others.
        """
        return self.fates.table()

    @property
    def heads(self) -> dict[str, str]:
        """How each marked row's text began as the step had it that marked it, by row id."""
        return self.fates.heads()

    @property
    def measured(self) -> bool:
        """Whether `signals` holds anything that a step measured, beside fates."""
        return self.fates.measured


def run_steps(table: pa.Table, steps: Sequence[BoundStep], keys: Keys, *, side_by_side: bool = True) -> Ran:
    """Run the steps in order, taking the marked rows out after each (of a group of judged steps, after the last).

    Args:
        table: a table with `row_id: string`. String-view columns come out as large_string.
        steps: from `bind`. Of a global step, this runs the row-by-row half.
        keys: what random steps draw from.
        side_by_side: measure judged steps that stand in a row on the same rows. False: each on what those before it
            left, which is less work and gives the same rows, and nothing is known of what it would have said of others.

    Raises:
        ConfigError: a column that a step needs is missing, or an option is wrong; the notes name step and row.
        StepError: a step raised, or broke its contract; the notes name the step and the first row of the table.
    """
    table = classic(table)
    fates = RowFates(table)
    per_step: list[StepRun] = []
    for number, step, last in _grouped(steps, side_by_side=side_by_side):
        rows_in, rows_measured, bytes_in = fates.unmarked(table), table.num_rows, table.nbytes
        cpu = spent()
        table = _run_one(table, step, keys, f"step {number} of {len(steps)}: {step.name}", fates)
        rows_out = fates.unmarked(table)
        if last:
            table = fates.close(table)
        per_step.append(
            StepRun(
                name=step.name,
                rows_in=rows_in,
                rows_out=rows_out,
                bytes_in=bytes_in,
                cpu_seconds=spent() - cpu,
                rows_measured=rows_measured,
            )
        )
    return Ran(table=table, marked=fates.marked(), per_step=tuple(per_step), counters=dict(fates.counters), fates=fates)


def _grouped(steps: Sequence[BoundStep], *, side_by_side: bool) -> Iterator[tuple[int, BoundStep, bool]]:
    """(number from 1, step, whether rows are taken out after it): a group is a run of steps with a `judge`."""
    for number, (step, after) in enumerate(itertools.zip_longest(steps, steps[1:]), 1):
        assert step is not None
        grouped = side_by_side and step.spec.judge is not None and after is not None and after.spec.judge is not None
        yield number, step, not grouped


def _run_one(table: pa.Table, step: BoundStep, keys: Keys, where: str, fates: RowFates) -> pa.Table:
    """One step's output, its marks and signals handed to `fates`."""
    try:
        check_input(table, step)
        result = step(table, keys)
        check_output(table, result, step)
        return fates.take(classic(result), step)
    except DatapipeError as error:
        note(error, table, where)
        raise
    except MemoryError:
        raise
    except BaseException as error:
        # A panic in a Rust library (polars, tokenizers) derives from BaseException alone; interrupts and exits pass.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        wrapped = StepError(
            f"{step.name} raised {in_words(error)}",
            expected="a step that marks the rows it cannot handle, and raises for none",
            fix="look at the row named below, or leave the step out",
        )
        note(wrapped, table, where)
        blamed = culprit(table, step, keys, type(error))
        if blamed is not None:
            wrapped.add_note(f"it raises for this row alone: {blamed}")
        raise wrapped from error
