"""What is kept of the rows that steps mark."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from datapipe.steps import DROP, BoundStep, Keys, StepSpec, run_steps
from datapipe.steps.row_fates import HEAD


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """No options."""


def step(name, function, **spec):
    bare = {"version": 1, "kind": "map", "options": Nothing, "summary": "a toy for tests"}
    return BoundStep(
        spec=StepSpec(**bare, name=name, build=lambda _: function, **spec), options=Nothing(), step=function
    )


def test_heads_are_of_the_text_that_was_judged():
    """Not of what came in: an earlier step made it; rows without a text, and rows that stay, have none."""

    def upper(table, keys):
        return table.set_column(1, "text", pc.utf8_upper(table["text"]))

    def drop(table, keys):
        marks = pc.if_else(pc.equal(table["row_id"], "c"), pa.scalar(None, pa.string()), pa.scalar("all"))
        return table.append_column(DROP, marks)

    table = pa.table({"row_id": ["a", "b", "c", "d"], "text": ["ä" * 999, "short", "stays", None]})
    found = run_steps(table, [step("upper", upper), step("drop", drop, reasons=("all",))], Keys())
    assert found.heads == {"a": "Ä" * HEAD, "b": "SHORT"}


def test_a_column_called_text_that_is_none():
    """A table may have one of any type."""

    def drop(table, keys):
        return table.append_column(DROP, pa.array(["all"]))

    found = run_steps(pa.table({"row_id": ["a"], "text": [7]}), [step("drop", drop, reasons=("all",))], Keys())
    assert found.heads == {}
