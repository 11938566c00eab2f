"""Whether a step was given what it needs and gave what it declares, and which row is to blame where it raised.

What enters: the table before and after a step. What leaves: nothing, or an error that says what the step did.
Invariant: a table that passes holds the rows that the step was given, in their order (a `reshape` step apart), and no
column that the step's spec does not name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datapipe.errors import ConfigError, StepError
from datapipe.steps.columns import TEXT, known_names, row_ids
from datapipe.steps.step import DETAIL, DROP, QUARANTINE, ROW_ID

if TYPE_CHECKING:
    import pyarrow as pa

    from datapipe.steps.registry import BoundStep
    from datapipe.steps.step import Keys

MARKS = (QUARANTINE, DROP, DETAIL)


def check_input(table: pa.Table, step: BoundStep) -> None:
    """The columns a step needs are there, and none that would pass for a mark or a signal.

    Raises:
        ConfigError: a column is missing, or one has a name that the step's results need.
    """
    columns = table.column_names
    missing = [name for name in (ROW_ID, *step.spec.needs) if name not in columns]
    if missing:
        raise ConfigError(
            f"{step.name} needs {', '.join(missing)}; the table has {', '.join(known_names(table)) or 'no column'}",
            expected=f"columns {', '.join(dict.fromkeys((ROW_ID, *step.spec.needs)))}",
            fix="give each row a column row_id, which tells it apart"
            if missing == [ROW_ID]
            else "put the step that gives it earlier in the recipe",
        )
    taken = [name for name in (*MARKS, *step.spec.signals) if name in columns]
    if taken:
        raise ConfigError(
            f"the table has a column {taken[0]!r} of its own",
            expected=f"that name to be free: {step.name} gives its marks and measurements by it",
            fix="rename the column, or leave it out of the reader's columns",
        )


def check_output(before: pa.Table, after: Any, step: BoundStep) -> None:
    """A step gives a table; one that is not `reshape`, the rows it was given, in their order.

    Raises:
        StepError: it does not, or a column came or is missing against what its spec declares.
    """
    import pyarrow as pa

    if not isinstance(after, pa.Table):
        raise StepError(
            f"{step.name} returned {type(after).__name__}",
            expected="a pyarrow.Table, or, of a function of your own, one true or false for each row",
            fix="correct the step",
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
    _check_columns(before, after, step)
    _check_text(before, after, step)


def _check_text(before: pa.Table, after: pa.Table, step: BoundStep) -> None:
    """A text that a step took away would be an empty row, and the next one its duplicate: dropped without a word."""
    import pyarrow.compute as pc

    if TEXT not in before.column_names or TEXT not in after.column_names:
        return
    if after.column(TEXT).null_count <= before.column(TEXT).null_count:
        return
    gone = pc.and_(pc.is_null(after.column(TEXT)), pc.is_valid(before.column(TEXT)))
    for mark in (DROP, QUARANTINE):
        if mark in after.column_names:
            gone = pc.and_(gone, pc.is_null(after.column(mark)))
    if lost := pc.sum(gone).as_py():
        first = row_ids(after).filter(gone)[0].as_py()
        raise StepError(
            f"{step.name} made the text of {lost:,} rows null, the first of them {first}",
            expected="a text for every row that stays",
            fix="drop such rows (drop_reason), or give them the empty text",
        )


def _check_columns(before: pa.Table, after: pa.Table, step: BoundStep) -> None:
    """What came is declared, what is declared to be measured is there, and what rows are told apart by is untouched."""
    import pyarrow as pa

    declared = {*before.column_names, *step.spec.gives, *step.spec.signals, *MARKS}
    names = after.column_names
    if extra := [name for name in names if name not in declared]:
        raise StepError(
            f"{step.name} added the column {extra[0]!r}, which it does not declare",
            expected=f"what it declares: {', '.join((*step.spec.gives, *step.spec.signals)) or 'no column'}",
            fix=f"name {extra[0]!r} in the step's gives (kept with the rows) or signals (stored beside the shards)",
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise StepError(
            f"{step.name} returned two columns {twice!r}", expected="each once", fix="replace the column in its place"
        )
    for name in (name for name in before.column_names if name.startswith("__") and name not in step.spec.gives):
        if name not in names or not after.column(name).equals(before.column(name)):
            raise StepError(
                f"{step.name} {'changed' if name in names else 'removed'} the column {name!r}",
                expected="the columns whose names begin with '__' as they were: rows are told apart by them",
                fix="set_column, append_column or drop_columns of the table it is given, instead of a table of its own",
            )
    for name in step.spec.signals:
        if name not in names:
            raise StepError(
                f"{step.name} did not measure {name!r}",
                expected="a value for every declared signal, of marked rows too",
                fix="add the column, or take it out of the step's signals",
            )
        kind = after.schema.field(name).type
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        if not number or (name in step.spec.counters and not pa.types.is_integer(kind)):
            raise StepError(
                f"{step.name} gave the signal {name!r} as {kind}",
                expected="integers (a counter is summed)" if name in step.spec.counters else "numbers or truth values",
                fix="convert the column in the step",
            )


def note(error: BaseException, table: Any, where: str) -> None:
    """Say in the error's notes at which step it was, and where in the corpus."""
    error.add_note(where)
    if ROW_ID in table.column_names and table.num_rows:
        error.add_note(f"first row: {table.column(ROW_ID)[0].as_py()} ({table.num_rows:,} rows in the table)")


def culprit(table: pa.Table, step: BoundStep, keys: Keys, kind: type[BaseException]) -> str | None:
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
