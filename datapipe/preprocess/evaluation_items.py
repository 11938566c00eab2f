"""How many evaluation items a run has looked for, and how many it could not: they have too few words.

What enters: a recipe. What leaves: counters for the run's report. Invariant: they are of the files and options alone,
whatever was done by an earlier run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datapipe.errors import ConfigError
from datapipe.steps.decontaminate import DecontaminateOptions
from datapipe.steps.decontaminate_index import index_of

if TYPE_CHECKING:
    from datapipe.preprocess.recipe import Recipe


def evaluation_counters(recipe: Recipe) -> dict[str, int]:
    """`decontaminate.items` that were looked for and `decontaminate.items_ignored`, summed over the recipe's steps."""
    found: dict[str, int] = {}
    for step in recipe.steps:
        given = step.options
        if isinstance(given, DecontaminateOptions) and given.files:
            try:
                index = index_of(given.files, given.names, given.columns, given.n, given.min_words)
            except ConfigError:
                continue  # a file went away during the run, which had its copy: no reason to lose the run's report
            for name, n in (("items", index.indexed), ("items_ignored", index.ignored)):
                found[f"decontaminate.{name}"] = found.get(f"decontaminate.{name}", 0) + n
    return found
