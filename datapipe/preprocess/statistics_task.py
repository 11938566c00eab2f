"""The one task of a statistics stage: the sketches of all splits, merged in their order → what the step is given.

What enters: a `StatisticsTask`, sketches as canonical JSON. What leaves: its record, after its file, which goes into
the dataset's index: later deliveries are normalised by the same statistics. Invariant: the file is a function of the
sketches and the options; memory is that of two sketches.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError, PreprocessError
from datapipe.preprocess.recipe import canonical
from datapipe.preprocess.task_clock import TaskClock
from datapipe.preprocess.tasks import Task, TaskRecord
from datapipe.preprocess.work import WorkFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

STATISTICS: Final = "statistics"
MOST_TOLD: Final = 10
MOST_LETTERS: Final = 60
"""Of the values of a column that rows are chosen by, in an error: how many, and how much of each."""


@final
@dataclass(frozen=True, kw_only=True)
class StatisticsTask(Task):
    """Merge sketches: `sketches` are their paths, `step` and `options` those that they were made for."""

    step: str
    options: dict[str, Any]
    sketches: tuple[str, ...] = field(repr=False)

    def run(self) -> TaskRecord:
        """See `Task.run`."""
        return run_statistics(self)


def run_statistics(task: StatisticsTask) -> TaskRecord:
    """Do the task; its file is stored, its record is returned (and not yet stored).

    Raises:
        PreprocessError: a column has too many different values for what is asked of it.
        ConfigError: no row has the values by which rows are chosen.
    """
    from datapipe.steps import find_step, options_from
    from datapipe.steps.table_statistics import VERSION

    clock = TaskClock(task)
    work = WorkFolder(task.output.open())
    rows = size = 0
    there: dict[str, set[str]] = {}

    def sketches() -> Iterator[dict[str, Any]]:
        nonlocal rows, size
        for path in task.sketches:
            data = work.store.read(path)
            found = json.loads(data)
            rows += found["rows"]
            size += len(data)
            if found["rows"]:
                yield found["columns"]
            for name, values in found.get("there", {}).items():
                there.setdefault(name, set()).update(values)

    options = options_from(find_step(task.step), task.options)
    columns = (_numbers if task.step == "normalise" else _labels)(sketches(), options)
    if there and not rows:
        raise _no_row(task.step, options, there)
    data = canonical({"version": VERSION, "columns": columns})
    return clock.record(
        f"{task.step}: merge",
        rows_in=rows,
        rows_out=rows,
        bytes_in=size,
        files={STATISTICS: work.keep_bytes(STATISTICS, data)},
    )


def _no_row(step: str, options: Any, there: dict[str, set[str]]) -> ConfigError:
    asked = " and ".join(f"{name} = {value!r}" for name, value in options.measure.items())
    told = {name: ", ".join(sorted(values)[:MOST_TOLD]) or "null, or encrypted" for name, values in there.items()}
    return ConfigError(
        f"{step}.measure: no row has {asked}",
        expected=f"values that rows have: {'; '.join(f'{name}: {values}' for name, values in sorted(told.items()))}",
        fix=f"correct {step}.measure",
    )


def _numbers(sketches: Iterator[dict[str, Any]], options: Any) -> dict[str, Any]:
    from datapipe.preprocess.sketches.number_column import NumberColumn

    whole = {name: NumberColumn(scaling) for name, scaling in options.columns.items()}
    for found in sketches:
        for name, column in whole.items():
            column.merge(NumberColumn(column.scaling, found[name]))
    return {name: column.statistics(name) for name, column in whole.items()}


def _labels(sketches: Iterator[dict[str, Any]], options: Any) -> dict[str, Any]:
    from datapipe.preprocess.sketches.counts import Counts, counts_from
    from datapipe.steps.categories import MOST, chosen

    whole = {name: Counts(MOST) for name in options.counted}
    for found in sketches:
        for name, counts in whole.items():
            counts.merge(counts_from(found[name], MOST))
    columns = {}
    for name, counts in whole.items():
        if counts.over:
            raise PreprocessError(
                f"column {name!r} has more than {MOST:,} different values",
                expected="a column of labels",
                fix=f"hash it instead: categories.columns.{name} = {{buckets: 65536}}",
            )
        kept, other = chosen(list(counts.by_value.items()), options.columns[name])
        columns[name] = {
            "values": [value for value, _ in kept],
            "counts": [count for _, count in kept],
            "distinct": len(counts.by_value),
            "nulls": counts.nulls,
            "other": other,
        }
    return columns
