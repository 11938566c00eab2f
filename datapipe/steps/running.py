"""Run steps one after the other over one Arrow table, and account for every row.

What enters: a table with `row_id`, and bound steps. What leaves: the rows that came through, a table of the rows that
were marked, each with its step and reason, and what each step took in, gave and cost.
Invariant: rows in = rows out + marked rows (a `reshape` step apart); rows keep their order; a step that adds, removes
or reorders rows, or marks a reason that it has not declared, is stopped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError, DatapipeError, StepError
from datapipe.steps.columns import classic, row_ids
from datapipe.steps.step import DROP, QUARANTINE, ROW_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from datapipe.steps.registry import BoundStep
    from datapipe.steps.step import Keys

DROPPED: Final = "drop"
QUARANTINED: Final = "quarantine"


@dataclass(frozen=True, kw_only=True)
class StepRun:
    """What one step did: rows in and out (marked rows are not out), bytes of the table it was given, CPU seconds.

    CPU seconds are the process's, all threads: polars and tokenizers work on threads of their own. So they are right
    in a worker that runs one task at a time, and too high where others compute beside it.
    """

    name: str
    rows_in: int
    rows_out: int
    bytes_in: int
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class Ran:
    """The outcome of `run_steps`.

    Attributes:
        table: the rows that came through.
        marked: `row_id, step, kind ("drop" | "quarantine"), reason`, all string, in the order of the steps;
            of one step, quarantined rows come first.
        per_step: one entry per step, in order.
    """

    table: pa.Table
    marked: pa.Table
    per_step: tuple[StepRun, ...]


@final
class _Marks:
    """The marked rows of a run, collected step by step."""

    def __init__(self) -> None:
        self.parts: list[pa.Table] = []

    def table(self) -> pa.Table:
        import pyarrow as pa

        schema = pa.schema([(name, pa.string()) for name in (ROW_ID, "step", "kind", "reason")])
        return pa.concat_tables([schema.empty_table(), *self.parts])


def run_steps(table: pa.Table, steps: Sequence[BoundStep], keys: Keys) -> Ran:
    """Run the steps in order, taking the marked rows out after each.

    Args:
        table: a table with `row_id: string`. String-view columns come out as large_string.
        steps: from `bind`. Of a global step, this runs the row-by-row half.
        keys: what random steps draw from.

    Raises:
        ConfigError: a column that a step needs is missing, or an option is wrong; the notes name step and row.
        StepError: a step raised, or broke its contract; the notes name the step and the first row of the table.
    """
    marks = _Marks()
    per_step = []
    table = classic(table)
    for number, step in enumerate(steps, 1):
        rows_in, bytes_in = table.num_rows, table.nbytes
        cpu = time.process_time()
        table = _run_one(table, step, keys, f"step {number} of {len(steps)}: {step.name}", marks)
        per_step.append(
            StepRun(
                name=step.name,
                rows_in=rows_in,
                rows_out=table.num_rows,
                bytes_in=bytes_in,
                cpu_seconds=time.process_time() - cpu,
            )
        )
    return Ran(table=table, marked=marks.table(), per_step=tuple(per_step))


def _run_one(table: pa.Table, step: BoundStep, keys: Keys, where: str, marks: _Marks) -> pa.Table:
    """One step's output without the rows it marked, which go into `marks`."""
    try:
        _check_input(table, step)
        result = step(table, keys)
        _check_output(table, result, step)
        return _split(result, step, marks)
    except DatapipeError as error:
        _note(error, table, where)
        raise
    except MemoryError:
        raise
    except BaseException as error:
        # A panic in a Rust library (polars, tokenizers) derives from BaseException alone; interrupts and exits pass.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        wrapped = StepError(
            f"{step.name} raised {type(error).__name__}: {error}",
            expected="a step that marks the rows it cannot handle, and raises for none",
            fix="look at the row named below, or leave the step out",
        )
        _note(wrapped, table, where)
        culprit = _culprit(table, step, keys, type(error))
        if culprit is not None:
            wrapped.add_note(f"it raises for this row alone: {culprit}")
        raise wrapped from error


def _note(error: BaseException, table: Any, where: str) -> None:
    error.add_note(where)
    if ROW_ID in table.column_names and table.num_rows:
        error.add_note(f"first row: {table.column(ROW_ID)[0].as_py()} ({table.num_rows:,} rows in the table)")


def _culprit(table: pa.Table, step: BoundStep, keys: Keys, kind: type[BaseException]) -> str | None:
    """The first row for which the step raises the same kind of error on its own, by halving; None if there is none.

    Costs at most as much again as the step over the table, once, on the way to an error.
    """
    if step.spec.kind == "reshape" or not table.num_rows:
        return None
    start, size = 0, table.num_rows
    while size > 1:
        half = size // 2
        if _raises(table.slice(start, half), step, keys, kind):
            size = half
        else:
            start, size = start + half, size - half
    if not _raises(table.slice(start, 1), step, keys, kind):
        return None
    return str(table.column(ROW_ID)[start].as_py())


def _raises(table: pa.Table, step: BoundStep, keys: Keys, kind: type[BaseException]) -> bool:
    try:
        step(table, keys)
    except kind:
        return True
    return False


def _check_input(table: pa.Table, step: BoundStep) -> None:
    """The columns a step needs are there, and none that would pass for a mark."""
    columns = table.column_names
    missing = [name for name in (ROW_ID, *step.spec.needs) if name not in columns]
    if missing:
        raise ConfigError(
            f"{step.name} needs {', '.join(missing)}; the table has {', '.join(columns) or 'no column'}",
            expected=f"columns {', '.join(dict.fromkeys((ROW_ID, *step.spec.needs)))}",
            fix="put the step that gives it earlier in the recipe",
        )
    taken = [name for name in (DROP, QUARANTINE) if name in columns]
    if taken:
        raise ConfigError(
            f"the table has a column {taken[0]!r} of its own",
            expected="that name to be free: steps mark rows by it",
            fix="rename the column, or leave it out of the reader's columns",
        )


def _check_output(before: pa.Table, after: Any, step: BoundStep) -> None:
    """A step gives a table; one that is not `reshape`, the rows it was given, in their order."""
    import pyarrow as pa

    if not isinstance(after, pa.Table):
        raise StepError(
            f"{step.name} returned {type(after).__name__}", expected="a pyarrow.Table", fix="correct the step"
        )
    if ROW_ID not in after.column_names:
        raise StepError(f"{step.name} removed {ROW_ID}", expected="every row to keep its id", fix="correct the step")
    if step.spec.kind == "reshape":
        return
    if after.num_rows != before.num_rows:
        raise StepError(
            f"{step.name} was given {before.num_rows:,} rows and returned {after.num_rows:,}",
            expected="the same rows, some of them marked",
            fix="mark rows by drop_reason instead of removing them, or declare the step kind='reshape'",
        )
    if not row_ids(after).equals(row_ids(before)):
        raise StepError(
            f"{step.name} changed row ids or their order",
            expected="the same rows in the same order",
            fix="correct the step, or declare it kind='reshape'",
        )


def _split(table: pa.Table, step: BoundStep, marks: _Marks) -> pa.Table:
    """Take the marked rows out of a step's output; a row marked both ways is quarantined."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, kind in ((QUARANTINE, QUARANTINED), (DROP, DROPPED)):
        if name not in table.column_names:
            continue
        reasons = table.column(name)
        stays = pc.is_null(reasons)
        gone = table.filter(pc.invert(stays))
        table = table.filter(stays).drop_columns([name])
        if not gone.num_rows:
            continue
        given = gone.column(name).cast(pa.string())
        undeclared = sorted(set(pc.unique(given).to_pylist()) - set(step.spec.reasons))
        if undeclared:
            raise StepError(
                f"{step.name} marked rows by {', '.join(map(repr, undeclared))}",
                expected=f"a declared reason: {', '.join(step.spec.reasons) or 'it declares none'}",
                fix="add the reason to the step's spec",
            )
        n = gone.num_rows
        marks.parts.append(
            pa.table(
                {
                    ROW_ID: row_ids(gone),
                    "step": pa.array([step.name] * n, pa.string()),
                    "kind": pa.array([kind] * n, pa.string()),
                    "reason": given,
                }
            )
        )
    return table
