"""What a delivery costs, by how much was delivered before it: the same to a corpus and to one N times as large.

    python benchmarks/append.py --mb 8 --times 10 --deliveries 3

Makes two datasets from random documents (Zipf-distributed words, a share of them exact and near copies of others), and
appends the same deliveries to each, in this process, by turns. Prints seconds of wall and CPU for each, their ratio,
the bytes read, and where the time went. The gate: the ratio is within 20%.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import datapipe

RECIPE = {
    "name": "append",
    "steps": ["decode", "unicode", "exact_duplicates", {"near_duplicates": {"threshold": 0.8}}],
    "output": {"split_bytes": 1 << 20},
}
WORDS = 30_000
COPIES = 0.1
"""Share of documents that repeat one of the corpus (of those that every size has), half of them with words changed."""


def documents(seed: int, total: int, known: list[str]) -> list[str]:
    """Documents of about 2 kB, `total` bytes of them."""
    draw = np.random.default_rng(seed)
    found: list[str] = []
    held = 0
    while held < total:
        if known and draw.random() < COPIES:
            words = known[int(draw.integers(len(known)))].split()
            if draw.random() < 0.5:
                words[int(draw.integers(len(words)))] = "changed"
        else:
            words = [f"w{n}" for n in np.minimum(draw.zipf(1.2, int(draw.integers(150, 500))), WORDS).tolist()]
        found.append(" ".join(words))
        held += len(found[-1])
    return found


def write(folder: Path, name: str, texts: list[str]) -> None:
    """A file of rows."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as file:
        for text in texts:
            file.write(json.dumps({"text": text}) + "\n")


def read_bytes() -> int:
    """Bytes that this process has read by system calls (Linux)."""
    try:
        lines = Path("/proc/self/io").read_text().split("\n")
    except OSError:
        return 0
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=8, help="of the small corpus")
    parser.add_argument("--times", type=int, default=10, help="how much larger the other one is")
    parser.add_argument("--delivery-mb", type=float, default=4)
    parser.add_argument("--deliveries", type=int, default=3)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="append-", dir=options.folder))
    try:
        result = measured(place, options)
    finally:
        shutil.rmtree(place)
    print(json.dumps(result) if options.json else told(result))


def measured(place: Path, options: argparse.Namespace) -> dict[str, object]:
    """Both datasets, all deliveries."""
    size = int(options.mb * 1e6)
    first = documents(1, size, [])
    outputs = {}
    for times in (1, options.times):
        write(place / f"in-{times}", "0.jsonl", first)
        for part in range(1, times):
            write(place / f"in-{times}", f"{part}.jsonl", documents(100 + part, size, first))
        outputs[times] = place / f"out-{times}"
        datapipe.preprocess(place / f"in-{times}", outputs[times], RECIPE, workers=0, keep_work=False)
        shutil.rmtree(place / f"in-{times}")
    found: dict[int, list[dict[str, object]]] = {times: [] for times in outputs}
    for number in range(options.deliveries):
        texts = documents(10_000 + number, int(options.delivery_mb * 1e6), first)
        write(place / f"new-{number}", f"new-{number}.jsonl", texts)
        turns = list(outputs.items())
        for times, output in turns if number % 2 else turns[::-1]:
            began, cpu, read = time.perf_counter(), time.process_time(), read_bytes()
            summary = datapipe.preprocess(place / f"new-{number}", output, RECIPE, workers=0, append=True)
            found[times].append(
                {
                    "seconds": time.perf_counter() - began,
                    "cpu": time.process_time() - cpu,
                    "read_mb": (read_bytes() - read) / 1e6,
                    "documents": summary.documents_in,
                    "duplicates": summary.duplicates,
                    "stages": summary.stages,
                    "manifest_mb": (output / "manifest.json").stat().st_size / 1e6,
                }
            )
    kinds = ("seconds", "cpu", "read_mb")
    middle = {
        times: {kind: statistics.median(float(each[kind]) for each in runs) for kind in kinds}  # type: ignore[arg-type]
        for times, runs in found.items()
    }
    ratio = {kind: middle[options.times][kind] / middle[1][kind] for kind in kinds}
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "corpus_mb": options.mb, "times": options.times, "delivery_mb": options.delivery_mb,
        "median": middle, "ratio": ratio, "runs": found,
    }  # fmt: skip


def told(result: dict[str, object]) -> str:
    """For a person."""
    lines = [f"{result['machine']}; a delivery of {result['delivery_mb']} MB to a corpus of {result['corpus_mb']} MB"]
    for times, runs in result["runs"].items():  # type: ignore[attr-defined]
        for run in runs:
            stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in run["stages"].items())
            rest = run["seconds"] - sum(run["stages"].values())
            lines.append(
                f"  x{times:<3} {run['seconds']:.2f} s, CPU {run['cpu']:.2f} s, read {run['read_mb']:.1f} MB,"
                f" {run['documents']} documents, {run['duplicates']} duplicates, manifest {run['manifest_mb']:.2f} MB:"
                f" {stages}, rest {rest:.2f}"
            )
    ratio = result["ratio"]
    lines.append(
        f"ratio x{result['times']} / x1: wall {ratio['seconds']:.2f}, CPU {ratio['cpu']:.2f},"  # type: ignore[index]
        f" bytes read {ratio['read_mb']:.2f}"  # type: ignore[index]
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
