"""Where to cut between preprocessing and the loader: `datapipe cut`'s figures beside cuts really executed.

    python benchmarks/offline_or_online.py INPUT... --recipe mine.yaml [--sample-rows 2000] [--json]

Every cut is executed on the whole corpus: `preprocess` with the recipe up to the cut, on one worker in this process,
then passes of a `DataLoader` whose transform is the rest. Predicted and executed, for each cut: rows, CPU seconds of
preprocessing (what else the machine does hardly shows in them), bytes stored, rows a second of the loader (best of
three passes) and its CPU µs a row, and the order of the cuts by time in all. A check that all steps were run: each
cut's loader delivers the same columns.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import datapipe
from datapipe.cli.cut.choosing import Terms, price
from datapipe.cli.cut.measuring import measure
from datapipe.cli.cut.sample import bound, first_movable, take_sample
from datapipe.preprocess import load_recipe
from datapipe.steps import steps_transform


def predict(inputs, recipe, given, folder):
    sample = take_sample(inputs, recipe, folder, rows=given.sample_rows)
    _, cuts = measure(sample, recipe, folder, batch_size=given.batch_size, threads=given.threads)
    return sample.rows, cuts


def execute(inputs, recipe, place, given, folder):
    """One cut on the whole corpus."""
    first = first_movable(recipe.steps)
    ahead = dataclasses.replace(recipe, steps=recipe.steps[: first + place])
    began = time.process_time()
    datapipe.preprocess(inputs, str(folder), recipe=ahead, workers=0, fresh=True)
    prepared = time.process_time() - began
    dataset = datapipe.open_dataset(str(folder))
    online = [bound(step, dataset) for step in recipe.steps[first + place :]]
    loader = datapipe.DataLoader(
        dataset, batch_size=given.batch_size, num_threads=given.threads, autotune=False, collate="numpy",
        transform=steps_transform(online) if online else None,
    )  # fmt: skip
    walls, used, columns = [], [], set()
    for epoch in range(4):
        loader.set_epoch(epoch)
        began, before = time.perf_counter(), time.process_time()
        for batch in loader:
            columns = set(batch)
        walls.append(time.perf_counter() - began)
        used.append(time.process_time() - before)
    loader.close()
    stored = sum(shard.bytes for shard in dataset.manifest.shards)
    rows = len(loader) * given.batch_size
    return {
        "rows": len(dataset), "prepare": prepared, "stored": stored, "rate": rows / min(walls[1:]),
        "loading": min(used[1:]) / rows * 1e6,
        "columns": sorted(columns),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--sample-rows", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    recipe = load_recipe(given.recipe)
    found = []
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        (folder / "sample").mkdir()
        rows, cuts = predict(given.inputs, recipe, given, folder / "sample")
        terms = Terms(rows=rows, workers=1, epochs=1, batch_size=given.batch_size)
        for place, cut in enumerate(cuts):
            said, done = price(cut, terms), execute(given.inputs, recipe, place, given, folder / f"whole-{place}")
            found.append({
                "after": cut.after or "(none)",
                "rows": (rows, done["rows"]),
                "prepare": (said.prepare, done["prepare"]),
                "stored": (said.stored, done["stored"]),
                "rate": (cut.rate, done["rate"]),
                "loading": (cut.loading * 1e6, done["loading"]),
                "total": (said.total, done["prepare"] + done["rows"] / done["rate"]),
                "columns": done["columns"],
            })  # fmt: skip
    same = all(one["columns"] == found[-1]["columns"] for one in found)
    orders = [sorted(range(len(found)), key=lambda i, s=s: found[i]["total"][s]) for s in (0, 1)]
    about = {"python": platform.python_version(), "cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    about |= {"same columns": same, "order predicted": orders[0], "order executed": orders[1]}
    if given.json:
        print(json.dumps(about | {"cuts": found}))
        return
    print(about)
    for one in found:
        print(one["after"])
        for name in ("rows", "prepare", "stored", "rate", "loading", "total"):
            said, done = one[name]
            print(f"  {name:<8} predicted {said:12,.1f}  executed {done:12,.1f}  {said / done - 1:+.1%}")


if __name__ == "__main__":
    main()
