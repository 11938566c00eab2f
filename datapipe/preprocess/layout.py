"""From a recipe's steps to stages: what is held back, where rows are written, which drop lists are still to be applied.

A `global` step cuts: its row-by-row half ends one stage, its pass adds what needs every row, and what comes after
begins another. What enters: a checked recipe. What leaves: its stages. Invariant: rows are written anew only where a
step may have changed them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from datapipe.preprocess.stage import IDS, MAP, MOVING, ROWS, RUNS, SHARD, Removal, Stage

if TYPE_CHECKING:
    from collections.abc import Collection

    from datapipe.preprocess.recipe import Recipe, RecipeStep

_REPEATED_ID = Removal(kind="quarantine", reason="duplicate_id", step="read")


@final
class Layout:
    """The stages so far, and where the rows are.

    Attributes:
        splits: how many tasks a stage over the rows has. buckets: into how many ranges hashes are cut.
        rows: the stage that wrote the rows as they stand; None: they are in the corpus.
        drops: stages whose drop lists those rows are still to be read with.
        given: global steps whose product an earlier snapshot has: their stages are left out.
        parts: how many splits rows are moved into, where a step moves them.
    """

    def __init__(self, splits: int, buckets: int, given: Collection[str] = (), parts: int = 0) -> None:
        self.splits = splits
        self.parts = parts or splits
        self.buckets = buckets
        self.given = frozenset(given)
        self.rows: int | None = None
        self.drops: tuple[int, ...] = ()
        self.stages: list[Stage] = []
        self._check_ids = False

    def lay_out(self, recipe: Recipe) -> list[Stage]:
        """The stages of a recipe."""
        from datapipe.preprocess.passes import pass_of

        self._check_ids = recipe.input.id_column is not None
        held: list[RecipeStep] = []
        sieve = next((step for step in recipe.steps if step.spec.sieve is not None), None)
        for step in recipe.steps:
            if step.spec.idle:
                continue
            if step.spec.kind == "global":
                if sieve is not None and step.name in MOVING:
                    # What becomes of a row is told by the place where it was read.
                    held, sieve = [*held, sieve], None
                held = pass_of(step.name).lay_out(self, step, held)
            elif step.spec.kind == "reshape":
                held = [*self.settled(held), step]
            else:
                held.append(step)
        self.map("write", self.settled(held), (SHARD,))
        return self.stages

    def settled(self, steps: list[RecipeStep]) -> list[RecipeStep]:
        """See to it that rows with a repeated id are known before what comes next; the steps that are left to run.

        What packs, samples or writes rows must not see rows of which some go as soon as all ids are known.
        """
        if not (self._check_ids and self.rows is None):
            return steps
        self.map("clean", steps, (ROWS,))
        return []

    def changed(self, before: list[RecipeStep]) -> tuple[str, ...]:
        """(ROWS,) where a stage that runs `before` has to write the rows for later ones, else ()."""
        return (ROWS,) if self.rows is None or before else ()

    def map(self, name: str, steps: list[RecipeStep], writes: tuple[str, ...]) -> int:
        """A stage over the rows; the number of the stage.

        Args:
            name: for progress. steps: what it runs. writes: kinds, ROWS among them where later stages read the rows.
        """
        check = self._check_ids and self.rows is None and ROWS in writes
        number = self._append(
            name,
            MAP,
            self.splits,
            steps=tuple(steps),
            source=self.rows,
            drops=self.drops,
            writes=(*writes, IDS) if check else writes,
            in_ledger=ROWS in writes or SHARD in writes,
        )
        if ROWS in writes:
            self.rows, self.drops = number, ()
        if check:
            self.drop_list(
                self.add(
                    "duplicate ids",
                    "duplicates",
                    self.buckets,
                    "exact_duplicates",
                    number,
                    IDS,
                    _REPEATED_ID,
                    writes=(f"{IDS}{RUNS}",),
                )
            )
        return number

    def add(
        self,
        name: str,
        kind: str,
        tasks: int,
        owner: str,
        source: int,
        reads: str,
        removal: Removal | None = None,
        *,
        steps: tuple[RecipeStep, ...] = (),
        writes: tuple[str, ...] = (),
    ) -> int:
        """A stage of a pass's own; its number.

        Args:
            kind: a word of the pass. tasks: how many, at most. owner: the pass's step. source: the stage whose files of
            kind `reads` its tasks read. removal: what becomes of the rows on its drop lists, where it makes some.
        """
        return self._append(
            name,
            kind,
            tasks,
            owner=owner,
            steps=steps,
            source=source,
            reads=reads,
            writes=writes,
            removal=removal,
        )

    def move(
        self, name: str, kind: str, parts: int, owner: str, source: int, reads: str, *, steps: tuple[RecipeStep, ...]
    ) -> int:
        """A stage of a pass's own that writes the rows into other splits, `parts` at most; its number."""
        number = self._append(
            name, kind, parts, owner=owner, steps=steps, source=source, reads=reads, writes=(ROWS,), moves=True
        )
        self.splits, self.rows, self.drops = parts, number, ()
        return number

    def rewrite(
        self, name: str, kind: str, owner: str, source: int, reads: str, *, steps: tuple[RecipeStep, ...]
    ) -> int:
        """A stage of a pass's own that writes the rows anew, each in its place and split; its number."""
        number = self._append(
            name, kind, self.splits, owner=owner, steps=steps, source=source, reads=reads, writes=(ROWS,)
        )
        self.rows, self.drops = number, ()
        return number

    def drop_list(self, number: int) -> None:
        """Rows are from here on read without those that stage `number` names."""
        self.drops = (*self.drops, number)

    def _append(self, name: str, kind: str, tasks: int, **rest: Any) -> int:
        number = len(self.stages)
        again = sum(stage.name.split(" #")[0] == name for stage in self.stages)
        self.stages.append(
            Stage(number=number, name=f"{name} #{again + 1}" if again else name, kind=kind, tasks=tasks, **rest)
        )
        return number
