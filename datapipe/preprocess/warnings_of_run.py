"""What a person should be told about a run that ended well: rules that did nothing or took everything, skipped files.

What enters: the plan, each step's rows, what discovery skipped. What leaves: sentences. Invariant: a warning changes
nothing; what is wrong raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datapipe.preprocess.plan import Plan
    from datapipe.preprocess.tasks import StepCost


def warnings_of(plan: Plan, costs: Sequence[StepCost], skipped: Mapping[str, int]) -> tuple[str, ...]:
    """The warnings of a finished run.

    A rule is a step that does nothing but mark rows: one that touches none of them is most often misspelt or misplaced.
    """
    found = []
    by_name = {cost.name: cost for cost in costs}
    for step in plan.recipe.steps:
        cost = by_name.get(step.name)
        if cost is None or not cost.rows_in or not step.spec.reasons or step.spec.kind != "map":
            continue
        gone = cost.rows_in - cost.rows_out
        if gone == cost.rows_in:
            found.append(f"{step.name} took all {gone:,} rows it was given")
        elif gone == 0 and not step.spec.gives:
            found.append(f"{step.name} touched none of {cost.rows_in:,} rows")
    if skipped:
        counts = ", ".join(f"{n:,} {reason}" for reason, n in sorted(skipped.items()))
        found.append(f"{sum(skipped.values()):,} files were passed over: {counts}")
    return tuple(found)
