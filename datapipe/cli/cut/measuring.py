"""What each cut costs and stores, and how fast a loader is at it, measured on a sample.

What enters: a `Sample`. What leaves: a `Measured` for each cut, from "nothing movable ahead" to "all of it ahead".
Invariant: each step runs on what the steps before it gave; the loader that is measured is `DataLoader`, on a dataset
written as the recipe writes it, the steps after the cut its transform.

CPU time is the process's, all threads; a loader's is the best of `PASSES` passes after one that is not counted, so that
what else the machine does shows as little as it can. A step that remembers what it has seen (a tokenizer its words)
would look cheap on a sample that comes round again: what it takes longer on rows it sees first is added. The rate is
the cores that the loader had, CPU ÷ wall, by that: the interpreter's lock and other programs are in it.

A loader of pictures decodes them: where no step of the recipe does, it is measured with `image_pixels` after the steps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, final

from datapipe.cli.cut.choosing import Measured

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from datapipe.cli.cut.sample import Sample
    from datapipe.preprocess import Recipe
    from datapipe.steps import BoundStep, Keys

PASSES: Final = 3
AHEAD_ALONE: Final = ("image_resize",)
"""Steps that only save later work: ahead, or not at all. In a loader they would decode and encode what is then decoded
to the wanted size anyway."""


@final
@dataclass(frozen=True, kw_only=True)
class StepCost:
    """One movable step.

    Attributes:
        name: of the step.
        ahead: CPU seconds a row in large tables, as preprocessing has them.
        online: the same in batches of the loader's size.
        gives: bytes a row after it (Arrow, in memory).
    """

    name: str
    ahead: float
    online: float
    gives: float


def decoding(sample: Sample) -> BoundStep | None:
    """The step by which a loader of the sample's pictures makes pixels of them, as `datapipe.Images` does.

    None: the rows hold no encoded pictures, a movable step decodes them itself, or one of them cannot be decoded. The
    size is that of `image_resize`, where it is among the steps and resizes, else what `datapipe.Images` makes.
    """
    import pyarrow as pa

    from datapipe.steps import BoundStep, Keys, find_step, run_steps

    table = sample.table
    kind = table.schema.field("image").type if "image" in table.column_names else None
    encoded = kind is not None and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
    if not encoded or any(step.name == "image_pixels" for step in sample.movable):
        return None
    spec = find_step("image_pixels")
    resized = next((step.options.shorter for step in sample.movable if step.name == "image_resize"), 0)
    options = spec.options(**({"size": resized} if resized else {}))
    step = BoundStep(spec=spec.resolved(options), options=options, step=spec.build(options))
    return step if run_steps(table, [step], Keys()).table.num_rows == table.num_rows else None


def measure(
    sample: Sample,
    recipe: Recipe,
    folder: Path,
    *,
    batch_size: int,
    threads: int,
    seed: int = 0,
    decode: BoundStep | None = None,
) -> tuple[list[StepCost], list[Measured]]:
    """Measure every step and every cut.

    Args:
        sample: rows at the first cut.
        recipe: says how datasets are written, and the seed of random steps.
        folder: for the datasets.
        batch_size: of the loader.
        threads: of the loader.
        seed: of its order.
        decode: what the loader does after every cut's steps, `decoding`.
    """
    from datapipe.steps import Keys, run_steps

    names = tuple(step.name for step in sample.movable)
    table, prepare, first_writing = sample.table, sample.cost, 0.0
    first_seen: list[float] = []
    steps: list[StepCost] = []
    cuts: list[Measured] = []
    for place in range(len(names) + 1):
        rest = tuple(step for step in sample.movable[place:] if step.name not in AHEAD_ALONE)
        if place:
            step = sample.movable[place - 1]
            keys = Keys(seed=recipe.seed)
            run_steps(table.slice(0, batch_size), [step], keys)  # what it loads once is no cost of a row
            began = time.process_time()
            made = run_steps(table, [step], keys).table
            ahead = (time.process_time() - began) / table.num_rows
            new = replace(step, step=step.spec.build(step.options))
            run_steps(table.slice(0, batch_size), [new], keys)
            online = _in_batches(table, new, keys, batch_size)
            more = max(0.0, online - _in_batches(table, new, keys, batch_size))
            first_seen.append(0.0 if step.name in AHEAD_ALONE else more)
            table = made
            prepare += ahead
            steps.append(
                StepCost(name=step.name, ahead=ahead, online=online, gives=table.nbytes / max(1, table.num_rows))
            )
        place_folder = folder / f"cut-{place}"
        stored, writing = _written(table, recipe, place_folder)
        loads = rest if decode is None else (*rest, decode)
        rate, loading = _loaded(place_folder, loads, batch_size, threads, seed)
        cuts.append(
            Measured(
                after=names[place - 1] if place else "", offline=names[:place],
                online=tuple(step.name for step in rest),
                # The sample's own run wrote the rows of the first cut; others write theirs in place of them.
                prepare=prepare + (writing - first_writing if place else 0.0), stored=stored, rate=rate,
                loading=loading,
            )
        )  # fmt: skip
        if not place:
            first_writing = writing
    return steps, [
        replace(cut, loading=cut.loading + more, rate=cut.rate * cut.loading / (cut.loading + more))
        for cut, more in ((cut, sum(first_seen[place:])) for place, cut in enumerate(cuts))
    ]


def _in_batches(table: pa.Table, step: BoundStep, keys: Keys, batch_size: int) -> float:
    from datapipe.steps import run_steps

    rows: int = table.num_rows
    began, done = time.process_time(), 0
    while done < rows:
        run_steps(table.slice(done, batch_size), [step], keys)
        done += batch_size
    return (time.process_time() - began) / rows


def _written(table: pa.Table, recipe: Recipe, folder: Path) -> tuple[float, float]:
    """Bytes a row of the dataset, and CPU seconds a row of writing it."""
    from datapipe.dataset import write_shard
    from datapipe.storage import open_store

    folder.mkdir()
    began = time.process_time()
    write_shard(
        open_store(str(folder)), "shard", [table.combine_chunks()], schema=table.schema.remove_metadata(),
        row_group_rows=recipe.output.row_group_rows, format=recipe.output.format,
        compression=recipe.output.compression,
    )  # fmt: skip
    writing = (time.process_time() - began) / table.num_rows
    return sum(file.stat().st_size for file in folder.iterdir()) / table.num_rows, writing


def _loaded(
    folder: Path, online: tuple[BoundStep, ...], batch_size: int, threads: int, seed: int
) -> tuple[float, float]:
    """Rows a second of a loader, and CPU seconds a row."""
    from datapipe.dataset import open_dataset
    from datapipe.loader import DataLoader
    from datapipe.steps import steps_transform

    dataset = open_dataset(str(folder))
    loader = DataLoader(
        dataset, batch_size=min(batch_size, len(dataset)), num_threads=threads, autotune=False, seed=seed,
        transform=steps_transform(online) if online else None, collate="numpy",
    )  # fmt: skip
    wall, cpu, rows = [], [], len(loader) * min(batch_size, len(dataset))
    try:
        for epoch in range(PASSES + 1):
            loader.set_epoch(epoch)
            began = (time.perf_counter(), time.process_time())
            for _ in loader:
                pass
            wall.append(time.perf_counter() - began[0])
            cpu.append(time.process_time() - began[1])
    finally:
        loader.close()
    return rows / min(wall[1:]), min(cpu[1:]) / rows
