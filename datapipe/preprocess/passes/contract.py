"""The contract of a global step: what needs every row of the corpus, as stages of small tasks over files.

A recipe's global step has two halves. The row-by-row half is a step like any other: it adds columns of its own (a hash,
a signature) to the rows of a map stage. What those columns are collected into, which stages read that, and what becomes
of the rows for it, is a `Pass`.

What enters: the step's place in the recipe, later the records of finished stages. What leaves: stages, later their
tasks. Invariant: a task is a function of the files it reads, and its key names their digests; a pass holds no state, so
that whoever resumes a run makes the same tasks.
"""

from __future__ import annotations

import abc
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from datapipe.preprocess.collectors import Collector
    from datapipe.preprocess.layout import Layout
    from datapipe.preprocess.made import Made
    from datapipe.preprocess.recipe import RecipeStep
    from datapipe.preprocess.stage import Stage
    from datapipe.preprocess.tasks import OutputFile, Task

NONE: Mapping[str, Any] = MappingProxyType({})


class Pass(abc.ABC):
    """One global step's way through the engine.

    Attributes:
        step: the step's name in the registry.
        internal: columns that the row half adds for the pass alone; no rows file and no shard holds them.
        collectors: what map tasks write for it, by kind.
        feeds: (step name, option) of steps after it that are given the path of a file the pass makes.
        by_rows: whether the row half reads the files that the step's options name; else workers are given none.
    """

    step: ClassVar[str]
    internal: ClassVar[tuple[str, ...]] = ()
    collectors: ClassVar[Mapping[str, type[Collector]]] = NONE
    feeds: ClassVar[tuple[tuple[str, str], ...]] = ()
    by_rows: ClassVar[bool] = True

    @abc.abstractmethod
    def lay_out(self, layout: Layout, step: RecipeStep, before: list[RecipeStep]) -> list[RecipeStep]:
        """Add the stages of `step`.

        Args:
            layout: where they are added. `layout.map` is a stage over the rows, `layout.add` one of the pass's own.
            step: the global step as the recipe has it.
            before: steps that the rows have still to go through before it.

        Returns:
            Steps that the next map stage runs first (the half that applies what the pass found out); mostly none.
        """

    @abc.abstractmethod
    def tasks(self, stage: Stage, made: Made) -> Iterator[Task]:
        """The tasks of one of its stages, once the stages before are done; in an order that depends on nothing else."""

    def settings(self, step: RecipeStep, stage: Stage, made: Made) -> dict[str, Any]:
        """Plain values that its collectors need in the tasks of map stage `stage`; part of the tasks' keys."""
        del step, stage, made
        return {}

    def product(self, stage: Stage, made: Made) -> OutputFile | None:
        """The file that `feeds` names, once one of its stages has made it; None before, and where there is none."""
        del stage, made
        return None
