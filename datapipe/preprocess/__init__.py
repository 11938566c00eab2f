r"""Raw files → a sharded dataset, every row accounted for. The module is the function: `datapipe.preprocess(...)`.

    summary = datapipe.preprocess(["docs/", "more/*.jsonl.gz"], "corpus", recipe="text", workers=4)
    print("\n".join(summary.ledger_lines()))

What enters: raw inputs, a recipe (YAML, shipped or one's own). What leaves: a dataset folder and a `RunSummary`.
Invariant: kill it at any time and call it again, with any number of workers: the same bytes, nothing twice.

    recipe, recipe_file, yaml_nodes    what to do, as checked data
    plan, step_order                   the stages, cut at global steps
    stage_tasks, tasks, execute        tasks: paths in, records out; map_task, duplicates_task, vocabulary_task
    sampled_run, cost_model            what a run will cost, from a little of it
    engine, clusters, scheduler        where they run: here, or on Dask; admission: which workers may
    limits, guard, poison              what a task may use; rows that do harm, found and left out
    work, output_folder                what is done, whose folder it is
    row_ledger, rejects, publishing    what became of every row; the dataset, published last
    signals_file, stored_run           what steps measured, kept with the dataset
    delivery, sorted_run, prior_runs   what is appended, and where it is looked up
    upkeep, telling                    merged, rolled back, expired; told of although it was killed
    explaining, retuning               asked afterwards: of one row, of another threshold
    encrypting, sealed_file            columns that only who has the keys may read
    erasing, suppression               rows taken out for good
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from datapipe.preprocess.cost_model import forecast_run
    from datapipe.preprocess.engine import cores
    from datapipe.preprocess.erasing import erase
    from datapipe.preprocess.erasure import Erasure
    from datapipe.preprocess.estimate import near_forecasts
    from datapipe.preprocess.explaining import explain
    from datapipe.preprocess.explanation import Explanation
    from datapipe.preprocess.plan import Plan, build_plan
    from datapipe.preprocess.progress import Progress
    from datapipe.preprocess.recipe import Recipe
    from datapipe.preprocess.recipe_file import load_recipe, parse_overrides, shipped_recipes
    from datapipe.preprocess.retuned import Retuned
    from datapipe.preprocess.retuning import retune
    from datapipe.preprocess.run import preprocess
    from datapipe.preprocess.scheduler import Scheduler
    from datapipe.preprocess.stage import Stage
    from datapipe.preprocess.summary import RunSummary
    from datapipe.preprocess.survey import plan_run

_HOME: Final = {
    "Erasure": "erasure",
    "Explanation": "explanation",
    "Plan": "plan",
    "Progress": "progress",
    "Recipe": "recipe",
    "Retuned": "retuned",
    "RunSummary": "summary",
    "Scheduler": "scheduler",
    "Stage": "stage",
    "build_plan": "plan",
    "cores": "engine",
    "erase": "erasing",
    "explain": "explaining",
    "forecast_run": "cost_model",
    "load_recipe": "recipe_file",
    "near_forecasts": "estimate",
    "parse_overrides": "recipe_file",
    "plan_run": "survey",
    "retune": "retuning",
    "shipped_recipes": "recipe_file",
}

__all__ = [
    "Erasure",
    "Explanation",
    "Plan",
    "Progress",
    "Recipe",
    "Retuned",
    "RunSummary",
    "Scheduler",
    "Stage",
    "build_plan",
    "cores",
    "erase",
    "explain",
    "forecast_run",
    "load_recipe",
    "near_forecasts",
    "parse_overrides",
    "plan_run",
    "preprocess",
    "retune",
    "shipped_recipes",
]


def __getattr__(name: str) -> Any:
    if name == "preprocess":
        # The module itself, whichever way it is reached: `datapipe.preprocess` is one object.
        return sys.modules[__name__]
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Callable(types.ModuleType):
    """A module that is its main function as well."""

    def __call__(self, *args: Any, **kwargs: Any) -> RunSummary:
        from datapipe.preprocess.run import preprocess as run

        return run(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
