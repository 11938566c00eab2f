"""From a recipe and the splits of a corpus to a plan: the stages, what each reads, does and writes. Data, printable.

A stage is a row of like tasks with a barrier after it. A map stage has one task per split: read rows, apply drop lists,
run steps, write rows, what a pass collects, or a shard. The other stages belong to passes (`passes/`).

What enters: a checked recipe, splits. What leaves: a `Plan`. Invariant: a plan is a function of the recipe and of the
input's names and sizes; no worker count, time, absolute path or host name is in it, and the stages of a recipe that
cannot work are refused here, before a byte is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from datapipe.preprocess.amounts import counted
from datapipe.preprocess.encrypting import check_encryption
from datapipe.preprocess.layout import Layout
from datapipe.preprocess.recipe import digest_of
from datapipe.preprocess.stage import MAP, SHARD, Stage
from datapipe.preprocess.step_order import check_order

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from datapipe.corpus import Split
    from datapipe.preprocess.recipe import Recipe

BUCKET_BYTES: Final = 1 << 30
"""Input bytes per bucket of hashes. At 500 bytes a document that is 2·10^6 rows of 28 bytes: 60 MB in a task."""
MAX_BUCKETS: Final = 256
SMALLEST_SPLIT: Final = 1 << 20
LARGEST_SPLIT: Final = 32 << 20
PART_BYTES: Final = 16 << 20
"""Input bytes per part that sorted or shuffled rows are moved into. A part is sorted in memory, and compressed text is
some five times as large there."""
MIN_SPLITS: Final = 12
"""At least so many splits where the corpus allows, so that a few workers end at about the same time."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will do. `print(plan)` shows it; `as_dict()` is the same for machines.

    Attributes:
        first_split: number of the first split; those below it belong to earlier snapshots.
        resources: checksum by path of the files that options name (a tokenizer, a list of words).
    """

    recipe: Recipe
    splits: tuple[Split, ...] = field(repr=False)
    stages: tuple[Stage, ...]
    files: int
    bytes: int
    buckets: int
    first_split: int = 0
    resources: dict[str, str] = field(default_factory=dict, repr=False)

    def definition(self, stage: Stage) -> str:
        """Digest of what a stage's tasks do to their input: steps, versions, options, seed and settings."""
        steps = []
        for step in stage.steps:
            options = step.plain()
            for option in step.spec.resources:
                value = getattr(step.options, option)
                # By content: the same file under another path changes nothing.
                paths = [value] if isinstance(value, str) else list(value)
                options[option] = [self.resources[path] for path in paths if path]
            steps.append([step.name, step.spec.version, options])
        recipe = self.recipe.as_dict()
        return digest_of(
            {
                "kind": stage.kind,
                "steps": steps,
                "seed": self.recipe.seed,
                "reads": stage.reads,
                "writes": list(stage.writes),
                "input": recipe["input"] if stage.kind == MAP and stage.source is None else None,
                "output": {**recipe["output"], "split_bytes": None} if SHARD in stage.writes else None,
                "signals": recipe["output"]["signals"] if stage.kind == MAP else None,
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
            f"input: {counted(self.files, 'file')}, {self.bytes:,} bytes, in {counted(len(self.splits), 'split')}",
        ]
        for stage in self.stages:
            lines.append(f"stage {stage.number}  {stage.name}: {counted(stage.tasks, 'task')}")
            lines += [f"    {line}" for line in stage.described()]
        return "\n".join(lines)


def build_plan(
    recipe: Recipe,
    splits: Sequence[Split],
    *,
    resources: dict[str, str] | None = None,
    bucket_bytes: int = BUCKET_BYTES,
    given: Collection[str] = (),
    bytes_before: int = 0,
) -> Plan:
    """Lay out the stages.

    Args:
        splits: from `corpus.plan_splits`.
        resources: checksums of the files that options name.
        bucket_bytes: input bytes per bucket; the rows that result do not depend on it.
        given: global steps whose product an earlier snapshot has.
        bytes_before: input bytes of earlier snapshots, which buckets hold as well.

    Raises:
        ConfigError: the recipe's steps do not work in this order.
    """
    check_encryption(recipe, check_order(recipe))
    total = sum(split.bytes for split in splits)
    buckets = 1
    while buckets < MAX_BUCKETS and buckets * bucket_bytes < total + bytes_before:
        buckets *= 2
    parts = max(len(splits), -(-total // PART_BYTES))
    stages = Layout(len(splits), buckets, given, parts).lay_out(recipe)
    return Plan(
        recipe=recipe,
        splits=tuple(splits),
        stages=tuple(stages),
        files=len({piece.file.name for split in splits for piece in split.pieces}),
        bytes=total,
        buckets=buckets,
        first_split=splits[0].index if splits else 0,
        resources=resources or {},
    )


def bucket_count(total: int, bucket_bytes: int = BUCKET_BYTES) -> int:
    """Buckets of hashes for an input of `total` bytes."""
    buckets = 1
    while buckets < MAX_BUCKETS and buckets * bucket_bytes < total:
        buckets *= 2
    return buckets


def part_count(splits: int, total: int) -> int:
    """Parts that sorted or shuffled rows are moved into."""
    return max(splits, -(-total // PART_BYTES))


def split_size(total: int) -> int:
    """Stored bytes per split for an input of `total` bytes: a power of two, so that a few files more change nothing."""
    size = SMALLEST_SPLIT
    while size < LARGEST_SPLIT and 2 * size * MIN_SPLITS <= total:
        size *= 2
    return size
