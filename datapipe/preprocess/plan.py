"""From a recipe and the splits of a corpus to a plan: the stages, what each reads, does and writes. Data, printable.

A stage is a row of like tasks with a barrier after it. A `global` step cuts: its row-by-row half ends one stage, what
needs every row is a stage of its own, and what comes after begins another.

    map         one task per split: read rows, apply drop lists, run steps, write rows, hashes, a sample or a shard
    duplicates  one task per bucket of hashes: which rows repeat an earlier one → drop lists
    vocabulary  one task: the samples → a tokenizer

What enters: a checked recipe, splits. What leaves: a `Plan`. Invariant: a plan is a function of the recipe and of the
input's names and sizes; no worker count, time, absolute path or host name is in it, and the stages of a recipe that
cannot work are refused here, before a byte is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from datapipe.preprocess.recipe import digest_of
from datapipe.preprocess.step_order import check_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datapipe.corpus import Split
    from datapipe.preprocess.recipe import Recipe, RecipeStep

DUPLICATES: Final = "exact_duplicates"
VOCABULARY: Final = "vocabulary"

BUCKET_BYTES: Final = 1 << 30
"""Input bytes per bucket of hashes. At 500 bytes a document that is 2·10^6 rows of 28 bytes: 60 MB in a task."""
MAX_BUCKETS: Final = 256
SMALLEST_SPLIT: Final = 1 << 20
LARGEST_SPLIT: Final = 32 << 20
MIN_SPLITS: Final = 12
"""At least so many splits where the corpus allows, so that a few workers end at about the same time."""

Kind = Literal["map", "duplicates", "vocabulary"]
Output = Literal["rows", "hashes", "ids", "sample", "shard"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage.

    Attributes:
        number: its place in the plan.
        name: for progress and messages.
        kind: see the module.
        tasks: how many there are (one per split that still has rows, at most).
        steps: what a map stage runs, or the global step that this stage is.
        source: map: the stage whose rows it reads, None for the corpus. duplicates and vocabulary: the stage whose
            hashes or samples it reads.
        drops: duplicates stages whose lists are applied to the rows read (map), or left out of account (duplicates).
        writes: of a map stage, what it writes; of a duplicates stage, which hashes it compares.
        in_ledger: whether its rows in and out are a link of the row ledger's chain (a stage that only takes a sample
            or hashes is not).
    """

    number: int
    name: str
    kind: Kind
    tasks: int
    steps: tuple[RecipeStep, ...] = ()
    source: int | None = None
    drops: tuple[int, ...] = ()
    writes: tuple[Output, ...] = ()
    in_ledger: bool = False

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
            "writes": list(self.writes),
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will do. `print(plan)` shows it; `as_dict()` is the same for machines.

    Attributes:
        resources: checksum by path of the files that options name (a tokenizer).
    """

    recipe: Recipe
    splits: tuple[Split, ...] = field(repr=False)
    stages: tuple[Stage, ...]
    files: int
    bytes: int
    buckets: int
    resources: dict[str, str] = field(default_factory=dict, repr=False)

    def definition(self, stage: Stage) -> str:
        """Digest of what a stage's tasks do to their input: steps, versions, options, seed and settings."""
        steps = []
        for step in stage.steps:
            options = step.plain()
            if path := getattr(step.options, "tokenizer", ""):
                options["tokenizer"] = self.resources[path]
            steps.append([step.name, step.spec.version, options])
        recipe = self.recipe.as_dict()
        return digest_of(
            {
                "kind": stage.kind,
                "steps": steps,
                "seed": self.recipe.seed,
                "writes": list(stage.writes),
                "input": recipe["input"] if stage.kind == "map" and stage.source is None else None,
                "output": {**recipe["output"], "split_bytes": None} if "shard" in stage.writes else None,
            }
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, with nothing of this machine."""
        return {
            "recipe": self.recipe.as_dict(),
            "recipe_fingerprint": self.recipe.fingerprint,
            "files": self.files,
            "bytes": self.bytes,
            "splits": len(self.splits),
            "buckets": self.buckets,
            "stages": [stage.as_dict() for stage in self.stages],
        }

    def __str__(self) -> str:
        lines = [
            f"recipe {self.recipe.name} ({self.recipe.fingerprint[:12]}), seed {self.recipe.seed}",
            f"input: {self.files:,} files, {self.bytes:,} bytes, in {len(self.splits)} splits",
        ]
        for stage in self.stages:
            lines.append(f"stage {stage.number}  {stage.name}: {stage.tasks} task{'s' if stage.tasks != 1 else ''}")
            lines += [f"    {line}" for line in self._describe(stage)]
        return "\n".join(lines)

    def _describe(self, stage: Stage) -> list[str]:
        if stage.kind == "duplicates":
            return [f"compare the {stage.writes[0]} of stage {stage.source} → drop lists"]
        if stage.kind == "vocabulary":
            return [f"train on the sample of stage {stage.source} → tokenizer"]
        lines = ["read the corpus" if stage.source is None else f"read the rows of stage {stage.source}"]
        lines += [f"leave out the duplicates of stage {number}" for number in stage.drops]
        for step in stage.steps:
            changed = ", ".join(f"{k}={v}" for k, v in step.plain().items() if not isinstance(v, list) and v != "")
            lines.append(f"{step.name}" + (f"  ({changed})" if changed else ""))
        return [*lines, f"write {', '.join(stage.writes)}"]


def build_plan(
    recipe: Recipe,
    splits: Sequence[Split],
    *,
    resources: dict[str, str] | None = None,
    bucket_bytes: int = BUCKET_BYTES,
) -> Plan:
    """Lay out the stages.

    Args:
        splits: from `corpus.plan_splits`.
        resources: checksums of the files that options name.
        bucket_bytes: input bytes per bucket; the rows that result do not depend on it.

    Raises:
        ConfigError: the recipe's steps do not work in this order.
    """
    check_order(recipe)
    total = sum(split.bytes for split in splits)
    buckets = 1
    while buckets < MAX_BUCKETS and buckets * bucket_bytes < total:
        buckets *= 2
    stages = _Layout(len(splits), buckets).lay_out(recipe)
    return Plan(
        recipe=recipe,
        splits=tuple(splits),
        stages=tuple(stages),
        files=len({piece.file.name for split in splits for piece in split.pieces}),
        bytes=total,
        buckets=buckets,
        resources=resources or {},
    )


def split_size(total: int) -> int:
    """Stored bytes per split for an input of `total` bytes: a power of two, so that a few files more change nothing."""
    size = SMALLEST_SPLIT
    while size < LARGEST_SPLIT and 2 * size * MIN_SPLITS <= total:
        size *= 2
    return size


class _Layout:
    """The stages so far, and where the rows are."""

    def __init__(self, splits: int, buckets: int) -> None:
        self._splits = splits
        self._buckets = buckets
        self._stages: list[Stage] = []
        self._rows: int | None = None  # the stage that wrote the rows as they stand; None: they are in the corpus
        self._drops: tuple[int, ...] = ()  # drop lists that those rows are still to be read with

    def lay_out(self, recipe: Recipe) -> list[Stage]:
        check_ids = recipe.input.id_column is not None
        held: list[RecipeStep] = []
        for step in recipe.steps:
            if step.spec.kind == "global":
                if check_ids and (self._rows is None and step.name == VOCABULARY):
                    # A sample of rows of which some go as soon as all ids are known: those go first.
                    self._map("clean", held, ("rows", "ids"))
                    held = []
                self._global(step, held, check_ids=check_ids and self._rows is None)
                held = []
            elif check_ids and self._rows is None and step.spec.kind == "reshape":
                self._map("clean", held, ("rows", "ids"))
                held = [step]
            else:
                held.append(step)
        if check_ids and self._rows is None:
            self._map("clean", held, ("rows", "ids"))
            held = []
        self._map("write", held, ("shard",))
        return self._stages

    def _global(self, step: RecipeStep, before: list[RecipeStep], *, check_ids: bool) -> None:
        # Rows are written anew only where a step may have changed them.
        rows: tuple[Output, ...] = ("rows",) if self._rows is None or before else ()
        if step.name == DUPLICATES:
            ids: tuple[Output, ...] = ("ids",) if check_ids else ()
            hashed = self._map("clean" if rows else "hash", [*before, step], (*rows, "hashes", *ids))
            self._duplicates("duplicates", hashed, "hashes", (step,))
        else:
            sampled = self._map("sample", [*before, step], (*rows, "sample"))
            self._add("vocabulary", "vocabulary", 1, steps=(step,), source=sampled)

    def _map(self, name: str, steps: list[RecipeStep], writes: tuple[Output, ...]) -> int:
        in_ledger = "rows" in writes or "shard" in writes
        number = self._add(
            name,
            "map",
            self._splits,
            steps=tuple(steps),
            source=self._rows,
            drops=self._drops,
            writes=writes,
            in_ledger=in_ledger,
        )
        if "rows" in writes:
            self._rows, self._drops = number, ()
        if "ids" in writes:
            self._duplicates("duplicate ids", number, "ids", ())
        return number

    def _duplicates(self, name: str, source: int, of: Output, steps: tuple[RecipeStep, ...]) -> None:
        # Lists made since those rows were hashed (of ids) tell which rows are no longer there to be the first.
        late = tuple(number for number in self._drops if number > source)
        number = self._add(name, "duplicates", self._buckets, steps=steps, source=source, drops=late, writes=(of,))
        self._drops = (*self._drops, number)

    def _add(self, name: str, kind: Kind, tasks: int, **rest: Any) -> int:
        number = len(self._stages)
        again = sum(stage.name.split(" #")[0] == name for stage in self._stages)
        self._stages.append(
            Stage(number=number, name=f"{name} #{again + 1}" if again else name, kind=kind, tasks=tasks, **rest)
        )
        return number
