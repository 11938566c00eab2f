"""run_steps: every row comes through or is marked, and a step that breaks its contract is stopped."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import ConfigError, DatapipeError, StepError
from datapipe.steps import DETAIL, DROP, QUARANTINE, BoundStep, Keys, StepSpec, bind, run_steps, steps_transform

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
    assert ran.marked["detail"].null_count == 4
    assert [tuple(mark.values())[:4] for mark in ran.marked.to_pylist()] == [
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
    assert ran.marked.schema == pa.schema([(n, pa.string()) for n in ("row_id", "step", "kind", "reason", "detail")])


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


@pytest.mark.parametrize(
    ("function", "done"),
    [
        (lambda table, _: table.select(["row_id", "value"]), "removed"),
        (lambda table, _: table.set_column(2, "__place", pa.array([0] * 6)), "changed"),
    ],
)
def test_columns_that_rows_are_told_apart_by(function, done):
    """A step that builds a table of its own, without them, is told so; no row is taken for another."""
    table = rows().append_column("__place", pa.array(range(6)))
    with pytest.raises(StepError, match=f"toy {done} the column '__place'"):
        run_steps(table, [toy(function)], KEYS)


def test_a_text_does_not_vanish():
    """A row that stays has a text: null is told, with the first row; a marked row's text does not matter."""
    table = rows().append_column("text", pa.array(list("abcdef")))

    def blank(table, _):
        return table.set_column(2, "text", pa.array(["a", None, None, "d", "e", "f"]))

    with pytest.raises(StepError, match="made the text of 2 rows null, the first of them r1"):
        run_steps(table, [toy(blank)], KEYS)
    marked = marker(DROP, "known", lambda v: v in (1, 2))
    ran = run_steps(table, [toy(lambda t, k: marked(blank(t, k), k), reasons=("known",))], KEYS)
    assert ran.table["text"].to_pylist() == ["a", "d", "e", "f"]


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


@pytest.mark.parametrize("name", [DROP, QUARANTINE, DETAIL])
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


def measure(name, threshold, **spec):
    """A judged step: the signal "<name>.value" is value × 10, and what lies above the threshold is dropped."""
    signal, reason = f"{name}.value", f"{name}_high"

    def judge(signals, _):
        high = pc.greater(signals[signal], threshold)
        return pc.if_else(high, pa.scalar(reason), pa.scalar(None, pa.string()))

    def step(table, _):
        table = table.append_column(signal, pc.multiply(table["value"], 10))
        return table.append_column(DROP, judge(table, None)).append_column(DETAIL, pc.cast(table["value"], pa.string()))

    return toy(step, name=name, signals=(signal,), reasons=(reason,), judge=judge, **spec)


class TestSignals:
    """What steps measure is taken out of the rows and kept, row by row, with each row's fate."""

    def test_judged_steps_are_measured_on_the_same_rows(self):
        """In a run of judged steps the later ones measure what the first drops, whose reason stands.

        Rows gone before the group, and rows gone before a later step, are not measured.
        """
        steps = [
            toy(marker(DROP, "zero", lambda v: v == 0), name="before", reasons=("zero",)),
            measure("a", 40),
            measure("b", 30),
            toy(marker(DROP, "one", lambda v: v == 1), name="between", reasons=("one",)),
            measure("c", 1000),
        ]
        ran = run_steps(rows(), steps, KEYS)
        assert ran.table.to_pydict() == {"row_id": ["r2", "r3"], "value": [2, 3]}
        assert ran.signals.to_pydict() == {
            "row_id": [f"r{i}" for i in range(6)],
            "step": ["before", "between", None, None, "b", "a"],
            "kind": ["drop", "drop", None, None, "drop", "drop"],
            "reason": ["zero", "one", None, None, "b_high", "a_high"],
            "detail": [None, None, None, None, "4", "5"],
            "a.value": [None, 10, 20, 30, 40, 50],
            "b.value": [None, 10, 20, 30, 40, 50],
            "c.value": [None, None, 20, 30, None, None],
        }
        assert [(run.rows_in, run.rows_out) for run in ran.per_step] == [(6, 5), (5, 4), (4, 3), (3, 2), (2, 2)]
        assert [run.rows_measured for run in ran.per_step] == [6, 5, 5, 3, 2]

    def test_fates_without_signals(self):
        """Where no step measures anything the fates of dropped rows are there all the same, in the input's order."""
        steps = [
            toy(marker(DROP, "odd", lambda v: v % 2), name="one", reasons=("odd",)),
            toy(marker(QUARANTINE, "four", lambda v: v == 4), name="two", reasons=("four",)),
        ]
        ran = run_steps(rows(), steps, KEYS)
        assert ran.signals["reason"].to_pylist() == [None, "odd", None, "odd", "four", "odd"]
        assert ran.signals["kind"].to_pylist() == [None, "drop", None, "drop", "quarantine", "drop"]
        assert run_steps(rows(), [], KEYS).signals["row_id"].to_pylist() == [f"r{i}" for i in range(6)]

    def test_counters_are_summed(self):
        """A counter is summed over all rows that were measured, dropped ones too, and over batches by whoever runs."""
        ran = run_steps(rows(), [measure("a", 40, counters=("a.value",)), measure("b", 30)], KEYS)
        assert ran.counters == {"a.value": 150}
        assert run_steps(rows(0), [measure("a", 40, counters=("a.value",))], KEYS).counters == {"a.value": 0}

    def test_the_same_step_twice(self):
        """The second time is measured apart, and counted together."""
        ran = run_steps(rows(2), [measure("a", 40, counters=("a.value",))] * 2, KEYS)
        assert ran.signals["a.value#2"].to_pylist() == [0, 10]
        assert ran.counters == {"a.value": 20}

    def test_online_rows_carry_no_signals(self):
        """A loader's transform gives the rows alone."""
        assert steps_transform([measure("a", 30)], KEYS)(rows()).column_names == ["row_id", "value"]

    @pytest.mark.parametrize(
        ("spec", "function", "message"),
        [
            ({"signals": ("x.a", "x.b")}, lambda t, _: t.append_column("x.a", t["value"]), "did not measure 'x.b'"),
            ({"signals": ("x.a",)}, lambda t, _: t.append_column("x.a", t["row_id"]), "the signal 'x.a' as string"),
            (
                {"signals": ("x.a",), "counters": ("x.a",)},
                lambda t, _: t.append_column("x.a", t["value"].cast(pa.float64())),
                "the signal 'x.a' as double",
            ),
            ({}, lambda t, _: t.append_column("x.a", t["value"]), "added the column 'x.a'"),
            ({}, lambda t, _: t.append_column("value", t["value"]), "two columns 'value'"),
        ],
    )
    def test_undeclared_and_missing_columns(self, spec, function, message):
        """A column that no spec names stops the run, and so does a declared signal that is not there or no number."""
        with pytest.raises(StepError, match=message):
            run_steps(rows(), [toy(function, **spec)], KEYS)

    def test_a_column_by_the_name_of_a_signal(self):
        """A column of the user's that a signal would overwrite is refused."""
        with pytest.raises(ConfigError, match="'a.value' of its own"):
            run_steps(rows().append_column("a.value", pa.array(range(6))), [measure("a", 1)], KEYS)

    @given(
        marks=st.lists(st.tuples(*[st.sampled_from([None, DROP, QUARANTINE])] * 4), max_size=12),
        judged=st.tuples(*[st.booleans()] * 4),
    )
    def test_every_row_has_one_fate(self, marks, judged):
        """Whatever steps mark and however they are grouped, a row's fate is that of the first step that marks it.

        The rows without one come through, and a group marks what the steps one by one would.
        """

        def stepped(place, *, grouped):
            def step(table, _):
                mine = [marks[v][place] for v in table["value"].to_pylist()]
                for kind in (DROP, QUARANTINE):
                    table = table.append_column(kind, pa.array(["r" if m == kind else None for m in mine], pa.string()))
                return table

            judge = (lambda signals, _: None) if grouped else None
            return toy(step, name=f"s{place}", reasons=("r",), judge=judge)

        ran = run_steps(rows(len(marks)), [stepped(i, grouped=judged[i]) for i in range(4)], KEYS)
        firsts = [next((i for i, mark in enumerate(row) if mark), None) for row in marks]
        expected = [(None if i is None else f"s{i}") for i in firsts]
        kinds = [None if i is None else row[i].removesuffix("_reason") for i, row in zip(firsts, marks, strict=True)]
        assert ran.signals["step"].to_pylist() == expected
        assert ran.signals["kind"].to_pylist() == kinds
        assert ran.table["value"].to_pylist() == [i for i, step in enumerate(expected) if step is None]
        assert ran.marked.num_rows + ran.table.num_rows == len(marks)


def test_in_turn_gives_the_same_rows_for_less():
    """Judged steps one after the other keep and drop the same rows for the same reasons, and measure fewer."""
    text = "the cat sat with a dog and that was it, to be sure. " * 10
    table = pa.table({"row_id": ["a", "b", "c"], "text": [text, "too short", text * 3 + "\n- x" * 400]})
    steps = [bind("gopher_quality@datatrove"), bind("gopher_repetition@datatrove"), bind("fineweb@datatrove")]
    beside, in_turn = (run_steps(table, steps, Keys(), side_by_side=each) for each in (True, False))
    assert in_turn.table.equals(beside.table)
    assert in_turn.marked.equals(beside.marked)
    assert [step.rows_measured for step in beside.per_step] == [3, 3, 3]
    assert in_turn.per_step[1].rows_measured < 3
