"""A stage of a plan: a row of like tasks with a barrier after it. Data.

What enters: what the layout decided. What leaves: the same, printable and JSON-able. Invariant: nothing of this machine
is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from datapipe.preprocess.recipe import RecipeStep

MAP: Final = "map"
ROWS: Final = "rows"
SHARD: Final = "shard"
IDS: Final = "ids"
MOVING: Final = ("sort", "shuffle")
"""Global steps that write rows into other splits than those they were read from."""
RUNS: Final = "_runs"
"""What the kinds of runs end in (`prior_runs`): `ids_runs` are made of `ids`."""


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What becomes of the rows that a stage's drop lists name.

    Attributes:
        kind: how the ledger counts them. reason: the word it counts them by (a duplicate has it in the samples alone).
        step: the step that took them out.
    """

    kind: Literal["duplicate", "drop", "quarantine"]
    reason: str
    step: str


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage.

    Attributes:
        number: its place in the plan.
        name: for progress and messages.
        kind: "map", or a word of the pass that owns it.
        owner: the global step whose pass makes and runs its tasks; "" for a map stage.
        tasks: how many there are (one per split that still has rows, at most).
        steps: what a map stage runs, or the global step that this stage is part of. A step that makes other rows does
            so in the last stage; in one before it, it is its sieve.
        source: the stage whose rows, or other files, it reads; None for the corpus.
        drops: stages whose drop lists are applied to the rows that a map stage reads.
        reads: of a stage that is no map, which kind of the source's files.
        writes: what it writes, by kind ("rows", "shard", or a word of a pass).
        removal: of a stage that makes drop lists, what becomes of the rows on them.
        in_ledger: whether its rows in and out are a link of the row ledger's chain (a stage that only takes a sample
            or hashes is not).
        moves: whether it writes the rows into other splits than those its source read.
    """

    number: int
    name: str
    kind: str
    tasks: int
    owner: str = ""
    steps: tuple[RecipeStep, ...] = ()
    source: int | None = None
    drops: tuple[int, ...] = ()
    reads: str = ""
    writes: tuple[str, ...] = ()
    removal: Removal | None = None
    in_ledger: bool = False
    moves: bool = False

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "number": self.number,
            "name": self.name,
            "kind": self.kind,
            "tasks": self.tasks,
            "steps": [{"step": s.name, "version": s.spec.version, "options": s.plain()} for s in self.steps],
            "source": self.source,
            "drops": list(self.drops),
            "reads": self.reads,
            "writes": list(self.writes),
        }

    def described(self) -> list[str]:
        """What it does, a line each."""
        if self.kind != MAP:
            reads = f"read the {self.reads} of stage {self.source}"
            return [f"{reads} → {', '.join(self.writes) or 'drop lists'}"]
        lines = ["read the corpus" if self.source is None else f"read the rows of stage {self.source}"]
        lines += [f"leave out what stage {number} names" for number in self.drops]
        for step in self.steps:
            if step.spec.kind == "reshape" and SHARD not in self.writes:
                lines.append(f"{step.name}: drop the rows of which nothing would be made")
                continue
            changed = ", ".join(f"{k}={v}" for k, v in step.plain().items() if not isinstance(v, list) and v != "")
            lines.append(f"{step.name}" + (f"  ({changed})" if changed else ""))
        return [*lines, f"write {', '.join(self.writes)}"]
