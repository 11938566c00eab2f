"""What was measured of a table's columns, as the steps that apply it take it: a file, or the JSON itself.

What enters: an option's value, or a dataset's manifest. What leaves: plain values by column; the steps of a recipe with
the manifest's statistics bound. Invariant: numbers go through JSON exactly (Python writes the shortest text that reads
back as the same float), so a step bound from the manifest gives the values that preprocessing gave, bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from datapipe.steps.registry import BoundStep

VERSION: Final = 1
MEASURED: Final = ("normalise", "categories")
"""Steps that are given statistics."""


class HasRecipe(Protocol):
    """A dataset's manifest, as far as it matters here."""

    @property
    def recipe(self) -> dict[str, Any] | None:
        """As `Recipe.as_dict` gives it."""
        ...

    @property
    def statistics(self) -> dict[str, Any]:
        """By step."""
        ...


def read_statistics(step: str, statistics: str, columns: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """What was measured, by column.

    Args:
        step: for whom, for messages.
        statistics: the path of a JSON file, or the JSON itself (it begins with "{").
        columns: those that must be there.

    Raises:
        ConfigError: it is not there, is none, or lacks a column.
    """
    inline = statistics.lstrip().startswith("{")
    where = "the statistics" if inline else statistics
    try:
        found = json.loads(statistics if inline else Path(statistics).read_bytes())
        by_column = dict(found["columns"]) if found["version"] == VERSION else {}
    except OSError as error:
        raise ConfigError(
            f"{step}.statistics: {where} cannot be read ({error.strerror})", expected="a JSON file that a run has made"
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{step}.statistics: {where} holds no statistics ({error})", expected="a JSON file that a run has made"
        ) from None
    if missing := [name for name in columns if not isinstance(by_column.get(name), dict)]:
        raise ConfigError(
            f"{step}.statistics: nothing of the column {missing[0]!r}",
            expected=f"the columns {', '.join(columns)}",
            fix="leave the option empty, so that the run measures them",
        )
    return by_column


def manifest_steps(manifest: HasRecipe) -> tuple[BoundStep, ...]:
    """The steps schema, normalise and categories of the recipe that made a dataset, with its statistics.

    For `steps_transform`: rows that come in as the corpus had them leave as the dataset holds them, bit for bit.

    Raises:
        ConfigError: the dataset was made by no recipe, or a statistic is missing.
    """
    from datapipe.steps.registry import bind

    recipe = manifest.recipe
    if not isinstance(recipe, Mapping):
        raise ConfigError("the dataset was not made by a recipe", expected="one that datapipe preprocess made")
    steps = []
    for entry in recipe["steps"]:
        name, options = entry["step"], dict(entry["options"])
        if name in MEASURED:
            if name in manifest.statistics:
                options["apply"] = "offline"
                options["statistics"] = json.dumps(manifest.statistics[name], ensure_ascii=False)
            else:
                options["statistics"] = ""
        elif name != "schema":
            continue
        step = bind(name, options)
        if step.spec.kind != "map":
            raise ConfigError(
                f"the manifest has no statistics for {name}", expected="a dataset that datapipe preprocess made"
            )
        steps.append(step)
    return tuple(steps)
