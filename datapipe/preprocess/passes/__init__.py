"""Global steps: one pass a file, and the way from a step's name to its pass.

categories          how often labels occur → their numbers
join                columns of large files, by key
exact_duplicates    which rows repeat an earlier one (and, of ids, which repeat an id)
image_duplicates    which pictures look like another
near_duplicates     which rows are nearly equal to another
repeated_lines      which lines repeat an earlier one, and are taken out
repeated_paragraphs the same for paragraphs
mix                 labels in given shares
normalise           moments and quantiles of columns → their scales
shuffle, sort       rows moved between splits
vocabulary          a sample of the texts → a tokenizer
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datapipe.preprocess.collectors import Collector
    from datapipe.preprocess.passes.contract import Pass

_HOME: Final = {
    "categories": "categories_pass",
    "exact_duplicates": "exact_duplicates_pass",
    "join": "join_pass",
    "image_duplicates": "image_duplicates_pass",
    "near_duplicates": "near_duplicates_pass",
    "repeated_lines": "repeated_lines_pass",
    "repeated_paragraphs": "repeated_paragraphs_pass",
    "mix": "mix_pass",
    "normalise": "normalise_pass",
    "shuffle": "shuffle_pass",
    "sort": "sort_pass",
    "vocabulary": "vocabulary_pass",
}
"""Each module has a `PASS`."""


@cache
def pass_of(step: str) -> Pass:
    """The pass of a global step."""
    found: Pass = importlib.import_module(f"{__name__}.{_HOME[step]}").PASS
    return found


@cache
def collector_of(kind: str) -> type[Collector]:
    """The collector that writes files of this kind."""
    from datapipe.preprocess.collectors import RowsCollector

    if kind == "rows":
        return RowsCollector
    return next(pass_of(step).collectors[kind] for step in _HOME if kind in pass_of(step).collectors)


@cache
def internal_columns() -> tuple[str, ...]:
    """Columns that passes add for themselves."""
    return tuple(name for step in _HOME for name in pass_of(step).internal)


def feeder_of(step: str, option: str) -> str | None:
    """The global step that gives `step` the file for `option`; None where no pass does."""
    return next((each for each in _HOME if (step, option) in pass_of(each).feeds), None)
