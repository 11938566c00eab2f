"""A run says what its rules did not do, and what they did too well."""

import pytest

from datapipe.preprocess.plan import build_plan
from datapipe.preprocess.recipe_file import load_recipe
from datapipe.preprocess.tasks import StepCost
from datapipe.preprocess.warnings_of_run import warnings_of
from datapipe.steps import REGISTRY

RULE = "gopher_quality@whitespace"
REASONS = REGISTRY[RULE].reasons


def warned(rows_in, rows_out, gone, *, steps=("decode", RULE), skipped=None, crashed=()):
    plan = build_plan(load_recipe({"name": "r", "steps": list(steps)}), [])
    cost = StepCost(name=RULE, rows_in=rows_in, rows_out=rows_out, bytes_in=0, cpu_seconds=0.0)
    return warnings_of(plan, [cost], skipped or {}, gone, crashed)


def test_a_step_that_touches_nothing_or_everything():
    """0% and 100% are told, with the rows; anything between is not."""
    assert warned(10, 10, {}) == (f"{RULE} touched none of 10 rows",)
    assert warned(10, 0, {REASONS[0]: 10}) == (f"{RULE} took all 10 rows it was given",)
    assert warned(10, 9, {REASONS[0]: 1}) == ()
    assert warned(0, 0, {}) == ()


def test_a_step_that_failed_on_rows():
    """The rows that it crashed on are told of by themselves: that it touched none of the rest is not so."""
    assert warned(78, 78, {"step_raised": 2}, crashed={RULE}) == ()
    assert warned(78, 78, {"step_raised": 2}, crashed={"decode"}) == (f"{RULE} touched none of 78 rows",)
    assert warned(1, 1, {}) == (f"{RULE} touched none of 1 row",)


def test_a_rule_that_touches_nothing():
    """Of a step with many rules, those that took none of many rows, by name; of few rows that says nothing."""
    (warning,) = warned(5000, 4999, {REASONS[0]: 1})
    assert warning.startswith(f"{RULE}: {len(REASONS) - 1} of its {len(REASONS)} rules touched none of 5,000 rows")
    assert REASONS[0] not in warning
    assert all(reason in warning for reason in REASONS[1:])
    assert warned(999, 998, {REASONS[0]: 1}) == ()
    assert warned(5000, 4000, dict.fromkeys(REASONS, 100)) == ()


def test_a_step_that_comes_twice():
    """Its reasons are counted together: which of the two touched nothing cannot be told, and is not."""
    assert warned(5000, 4999, {REASONS[0]: 1}, steps=("decode", RULE, RULE)) == ()


@pytest.mark.parametrize("skipped", [{"hidden": 2, "unknown format": 3}])
def test_files_passed_over(skipped):
    """How many, and why."""
    assert warned(10, 9, {}, skipped=skipped) == ("5 files were passed over: 2 hidden, 3 unknown format",)


def test_one_file_passed_over():
    """One is not many."""
    assert warned(10, 9, {}, skipped={"hidden": 1}) == ("1 file was passed over: 1 hidden",)


def test_rows_that_all_fit_a_schema():
    """That is what a schema hopes for: nothing is said."""
    plan = build_plan(
        load_recipe({"name": "r", "input": {"text_column": None, "columns": ["*"]}, "steps": ["schema"]}), []
    )
    cost = StepCost(name="schema", rows_in=10, rows_out=10, bytes_in=0, cpu_seconds=0.0)
    assert warnings_of(plan, [cost], {}, {}) == ()
