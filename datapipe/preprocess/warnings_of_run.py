"""What a person should be told about a run that ended well: rules that did nothing or took everything, skipped files.

What enters: the plan, each step's rows, what discovery skipped. What leaves: sentences. Invariant: a warning changes
nothing; what is wrong raises.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from datapipe.preprocess.amounts import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from datapipe.preprocess.plan import Plan
    from datapipe.preprocess.tasks import StepCost, TaskRecord


ENOUGH: Final = 1000
"""Rows: of fewer it says nothing that one rule of a step touched none."""
_FITS: Final = ("schema",)
"""Steps whose rule is what rows should be: that it touched none is what was hoped for."""
NAMED: Final = "columns"
"""What a record of a task that read the corpus holds of `input.columns`: the names of those that had a value."""


def columns_never_there(plan: Plan, records: Iterable[TaskRecord]) -> tuple[str, ...]:
    """A warning for each of `input.columns` that had no value in all of the input: most often it is misspelt.

    Args:
        plan: of the run. records: of the tasks that read the corpus; of those of an earlier version nothing is known.
    """
    names = [name for name in plan.recipe.input.columns if name != "*"]
    seen: set[str] = set()
    read = False
    for record in records if names else ():
        if NAMED not in record.found:
            return ()
        seen.update(record.found[NAMED])
        read = True
    return tuple(
        f"input.columns names {name!r}, for which no row of the input has a value: is it misspelt?"
        for name in names
        if read and name not in seen
    )


def warnings_of(
    plan: Plan,
    costs: Sequence[StepCost],
    skipped: Mapping[str, int],
    gone: Mapping[str, int],
    crashed: Collection[str] = (),
) -> tuple[str, ...]:
    """The warnings of a finished run.

    A step that does nothing but mark rows and touches none of them is most often misspelt or misplaced; so is, of a
    step with several rules (one with a judge), a rule that touches none of many.

    Args:
        costs: of the steps, summed. skipped: files that were passed over, by reason.
        gone: rows that were dropped or quarantined, by reason.
        crashed: names of steps that failed on rows, which were left out: told elsewhere, and touched by the step.
    """
    found = []
    by_name = {cost.name: cost for cost in costs}
    # The reasons of a step that comes twice are counted together: nothing can be said of each.
    times = Counter(step.name for step in plan.recipe.steps)
    for step in plan.recipe.steps:
        cost = by_name.get(step.name)
        if cost is None or not cost.rows_in or not step.spec.reasons or step.spec.kind != "map":
            continue
        taken = cost.rows_in - cost.rows_out
        if taken == cost.rows_in:
            found.append(f"{step.name} took all {taken:,} rows it was given")
        elif taken == 0 and not step.spec.gives and step.name not in (*_FITS, *crashed):
            found.append(f"{step.name} touched none of {counted(cost.rows_in, 'row')}")
        elif step.spec.judge is not None and cost.rows_in >= ENOUGH and times[step.name] == 1:
            idle = [reason for reason in step.spec.reasons if not gone.get(reason)]
            if idle:
                rules = f"{len(idle)} of its {len(step.spec.reasons)} rules"
                found.append(f"{step.name}: {rules} touched none of {cost.rows_in:,} rows: {', '.join(idle)}")
    if skipped:
        counts = ", ".join(f"{n:,} {reason}" for reason, n in sorted(skipped.items()))
        passed_over = sum(skipped.values())
        found.append(f"{passed_over:,} {'file was' if passed_over == 1 else 'files were'} passed over: {counts}")
    return tuple(found)
