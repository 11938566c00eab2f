"""run_steps: every row comes through or is marked, and a step that breaks its contract is stopped."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from datapipe.errors import ConfigError, DatapipeError, StepError
from datapipe.steps import DROP, QUARANTINE, BoundStep, Keys, StepSpec, bind, run_steps

KEYS = Keys(seed=5)


@dataclass(frozen=True, kw_only=True)
class Nothing:
    pass


class PanicException(BaseException):  # as pyo3 names what a Rust panic raises
    pass


def toy(function, *, name="toy", **spec):
    """A bound step from a function table, keys → table."""
    full = StepSpec(
        **{"name": name, "version": 1, "kind": "map", "options": Nothing, "summary": "a toy for tests", **spec},
        build=lambda _: function,
    )
    return BoundStep(spec=full, options=Nothing(), step=function)


def rows(n=6):
    return pa.table({"row_id": [f"r{i}" for i in range(n)], "value": pa.array(range(n))})


def marker(column, reason, predicate):
    def step(table, keys):
        marks = [reason if predicate(v) else None for v in table["value"].to_pylist()]
        return table.append_column(column, pa.array(marks, pa.string()))

    return step


def test_accounting():
    """Rows in = rows out + marked, with step, kind and reason for each, in order of step; figures per step."""
    steps = [
        toy(marker(DROP, "odd", lambda v: v % 2), name="one", reasons=("odd",)),
        toy(marker(QUARANTINE, "four", lambda v: v == 4), name="two", reasons=("four",)),
        toy(lambda table, _: table, name="three"),
    ]
    ran = run_steps(rows(), steps, KEYS)
    assert ran.table.to_pydict() == {"row_id": ["r0", "r2"], "value": [0, 2]}
    assert [tuple(mark.values()) for mark in ran.marked.to_pylist()] == [
        ("r1", "one", "drop", "odd"),
        ("r3", "one", "drop", "odd"),
        ("r5", "one", "drop", "odd"),
        ("r4", "two", "quarantine", "four"),
    ]
    assert [(run.name, run.rows_in, run.rows_out) for run in ran.per_step] == [
        ("one", 6, 3),
        ("two", 3, 2),
        ("three", 2, 2),
    ]
    assert ran.per_step[0].bytes_in == rows().nbytes
    assert all(run.cpu_seconds >= 0 for run in ran.per_step)
    assert ran.table.num_rows + ran.marked.num_rows == 6


def test_no_steps_no_marks():
    """Without steps the table comes back, and `marked` has its schema."""
    ran = run_steps(rows(), [], KEYS)
    assert ran.table.equals(rows())
    assert ran.per_step == ()
    assert ran.marked.schema == pa.schema([(n, pa.string()) for n in ("row_id", "step", "kind", "reason")])


def test_marked_both_ways_counts_once():
    """A row that is dropped and quarantined by one step is quarantined."""

    def both(table, _):
        table = table.append_column(DROP, pa.array(["d"] * table.num_rows))
        return table.append_column(QUARANTINE, pa.array(["q"] + [None] * (table.num_rows - 1), pa.string()))

    ran = run_steps(rows(3), [toy(both, reasons=("d", "q"))], KEYS)
    assert ran.table.num_rows == 0
    assert list(zip(ran.marked["kind"].to_pylist(), ran.marked["row_id"].to_pylist(), strict=True)) == [
        ("quarantine", "r0"),
        ("drop", "r1"),
        ("drop", "r2"),
    ]


def test_keys_reach_the_step():
    """Seed and epoch are handed on as they are."""
    seen = []
    run_steps(rows(), [toy(lambda table, keys: seen.append(keys) or table)], Keys(seed=9, epoch=2))
    assert seen == [Keys(seed=9, epoch=2)]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda table, _: table.slice(1), "was given 6 rows and returned 5"),
        (lambda table, _: pa.concat_tables([table, table]), "was given 6 rows and returned 12"),
        (lambda table, _: table.take(list(range(5, -1, -1))), "changed row ids or their order"),
        (lambda table, _: table.set_column(0, "row_id", [["x"] * 6]), "changed row ids"),
        (lambda table, _: table.drop_columns(["row_id"]), "removed row_id"),
        (lambda table, _: table.to_pydict(), "returned dict"),
        (lambda table, _: None, "returned NoneType"),
        (marker(DROP, "secret", lambda v: v == 2), "marked rows by 'secret'"),
        (marker(QUARANTINE, "secret", lambda v: v == 2), "marked rows by 'secret'"),
    ],
)
@pytest.mark.parametrize("kind", ["map", "global"])
def test_broken_contract(function, message, kind):
    """A step that adds, removes, reorders or renames rows, or marks what it has not declared, is a StepError."""
    with pytest.raises(StepError, match=message) as caught:
        run_steps(rows(), [toy(function, kind=kind, reasons=("known",))], KEYS)
    assert caught.value.__notes__[:2] == ["step 1 of 1: toy", "first row: r0 (6 rows in the table)"]


def test_reshape_may_change_rows():
    """A reshape step gives other rows, more or fewer."""
    ran = run_steps(rows(), [toy(lambda table, _: table.slice(2), kind="reshape")], KEYS)
    assert ran.table["row_id"].to_pylist() == ["r2", "r3", "r4", "r5"]
    assert (ran.per_step[0].rows_in, ran.per_step[0].rows_out) == (6, 4)


@pytest.mark.parametrize("error", [ValueError, ZeroDivisionError, PanicException])
@pytest.mark.parametrize("bad", range(6))
def test_a_step_that_raises(error, bad):
    """StepError with the cause, the step, the first row of the table, and the very row that raises alone."""

    def step(table, _):
        if pc.any(pc.equal(table["value"], bad)).as_py():
            raise error("five")
        return table

    with pytest.raises(StepError, match=f"toy raised {error.__name__}: five") as caught:
        run_steps(rows(), [bind("vocabulary"), toy(step)], KEYS)
    assert isinstance(caught.value.__cause__, error)
    assert caught.value.__notes__ == [
        "step 2 of 2: toy",
        "first row: r0 (6 rows in the table)",
        f"it raises for this row alone: r{bad}",
    ]
    assert pickle.loads(pickle.dumps(caught.value)).__notes__ == caught.value.__notes__


def test_a_fault_of_no_single_row():
    """A step that raises only for the rows together names the first row and blames none."""

    def step(table, _):
        if table.num_rows > 1:
            raise ValueError("too many")
        return table

    with pytest.raises(StepError) as caught:
        run_steps(rows(), [toy(step)], KEYS)
    assert len(caught.value.__notes__) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_interrupts_pass(error):
    """Ctrl-C, exits and the end of memory are no fault of the step: they are not wrapped."""

    def step(table, _):
        raise error

    with pytest.raises(error):
        run_steps(rows(), [toy(step)], KEYS)


def test_our_own_errors_keep_their_kind():
    """A ConfigError inside a step stays one (exit code 2), with the notes."""

    def step(table, _):
        raise ConfigError("no such file")

    with pytest.raises(ConfigError, match="no such file") as caught:
        run_steps(rows(), [toy(step)], KEYS)
    assert caught.value.__notes__[0] == "step 1 of 1: toy"


@pytest.mark.parametrize("names", [["value"], ["row_id"]])
def test_missing_columns(names):
    """A step without its columns says which it needs, which there are, and what to do."""
    with pytest.raises(ConfigError, match="toy needs") as caught:
        run_steps(rows().select(names), [toy(lambda table, _: table, needs=("row_id", "value"))], KEYS)
    assert f"the table has {names[0]}" in caught.value.got


@pytest.mark.parametrize("name", [DROP, QUARANTINE])
def test_reserved_columns(name):
    """A column of the user's by the name of a mark is refused, before it could pass for one."""
    table = rows().append_column(name, pa.array(["mine"] * 6))
    with pytest.raises(ConfigError, match="column of its own|column '"):
        run_steps(table, [toy(lambda table, _: table)], KEYS)


def test_all_rows_marked():
    """When nothing is left the later steps see an empty table and are still in the figures."""
    steps = [bind("unicode"), bind("gopher_quality@whitespace"), bind("exact_duplicates")]
    table = pa.table({"row_id": ["a", "b"], "text": ["", " "]})
    ran = run_steps(table, steps, KEYS)
    assert ran.table.num_rows == 0
    assert "content_hash" in ran.table.column_names
    assert [run.rows_in for run in ran.per_step] == [2, 0, 0]
    assert ran.marked["reason"].to_pylist() == ["empty", "empty"]


def test_errors_are_ours():
    """Whatever is wrong, `except DatapipeError` catches it."""
    with pytest.raises(DatapipeError):
        run_steps(rows(), [bind("unicode")], KEYS)
