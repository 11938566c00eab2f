"""A folder of photos preprocessed, against decoding them and against copying them.

    python benchmarks/images_preprocess.py [--photos 4000] [--rounds 5] [--workers 0] [--only copy,check,images]

What enters: photos of 500 x 375 pixels and about 105 kB (the mean of ImageNet's is 470 x 390 and 108 kB), made from a
seed, each of its own. What leaves: photos a second of wall time, CPU time of each, the medians of rounds in which all
contenders take turns, and their ratios to two bounds on as many threads as there are workers (one where they are 0: in
this process):

    decode   each file is read and decoded, whole, by the same decoder (`decode_image`)
    copy     each file is copied into a folder of its own (shutil.copyfile), as cp -r would; nothing is synced to disk

Contenders are whole runs of `datapipe.preprocess`: files found, read, shards written and synced, published, reported.

    rows     no step: bytes, path and label into shards          (to be compared with copy)
    head     image_check by headers alone                        (copy)
    check    image_check, every photo decoded; no hash           (decode)
    hash     the same and the perceptual hash                    (decode)
    images   the shipped recipe: checked, deduplicated, shuffled (decode; it writes all bytes three times)

Checked: every contender publishes as many rows as there are photos. What is timed is a warm page cache.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import datapipe

if TYPE_CHECKING:
    from collections.abc import Callable

HEIGHT, WIDTH = 375, 500
INPUT = {"text_column": None, "media": "image", "columns": ["*"]}
OUTPUT = {"compression": "none", "row_group_rows": 256}
STEPS: dict[str, tuple[str, Any]] = {
    "rows": ("copy", []),
    "head": ("copy", [{"image_check": {"decode": False}}]),
    "check": ("decode", [{"image_check": {"phash": False}}]),
    "hash": ("decode", ["image_check"]),
    "images": ("decode", None),
}


def make(folder: Path, photos: int) -> int:
    """Write the photos in five folders; their bytes."""
    import simplejpeg
    from PIL import Image

    rng = np.random.default_rng(0)
    grain = rng.normal(0, 1, (2 * HEIGHT, 2 * WIDTH, 3)).astype(np.float32)
    total = 0
    for number in range(photos):
        soft = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        fine = Image.fromarray(rng.integers(64, 192, (90, 120, 3), dtype=np.uint8))
        picture = 0.6 * np.asarray(soft.resize((WIDTH, HEIGHT)), np.float32)
        picture += 0.4 * np.asarray(fine.resize((WIDTH, HEIGHT)), np.float32)
        top, left = rng.integers(0, HEIGHT), rng.integers(0, WIDTH)
        picture += rng.uniform(11, 21) * grain[top : top + HEIGHT, left : left + WIDTH]
        pixels = np.clip(picture, 0, 255).astype(np.uint8)
        data = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), 90, "RGB", "420")
        where = folder / f"class{number % 5}" / f"{number:05d}.jpg"
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(data)
        total += len(data)
    return total


def by_threads(work: Callable[[Path], None], files: list[Path], threads: int) -> None:
    if threads == 1:
        for file in files:
            work(file)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, files, chunksize=16):
            pass


def decode(files: list[Path], threads: int, scratch: Path) -> None:
    from datapipe.steps.image_decode import decode_image

    del scratch

    def one(file: Path) -> None:
        assert decode_image(file.read_bytes()).shape == (HEIGHT, WIDTH, 3)

    by_threads(one, files, threads)


def copy(files: list[Path], threads: int, scratch: Path) -> None:
    for folder in {file.parent.name for file in files}:
        (scratch / folder).mkdir(parents=True)
    by_threads(lambda file: shutil.copyfile(file, scratch / file.parent.name / file.name) and None, files, threads)


def preprocess(name: str, source: Path, photos: int, workers: int, scratch: Path) -> None:
    steps = STEPS[name][1]
    recipe: Any = "images" if steps is None else {"name": name, "input": INPUT, "steps": steps, "output": OUTPUT}
    summary = datapipe.preprocess(source, scratch, recipe=recipe, workers=workers)
    assert summary.documents_out == photos, summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0, help="0: in this process, against one thread")
    parser.add_argument("--only", default=",".join(STEPS))
    parser.add_argument("--folder", help="for the photos, which are kept there and used again")
    chosen = parser.parse_args()
    only = chosen.only.split(",")
    threads = max(1, chosen.workers)
    with tempfile.TemporaryDirectory(prefix="images-preprocess-") as held:
        source = Path(chosen.folder or held) / f"photos-{chosen.photos}"
        size = sum(f.stat().st_size for f in source.rglob("*.jpg")) if source.is_dir() else make(source, chosen.photos)
        files = sorted(source.rglob("*.jpg"))
        assert len(files) == chosen.photos
        bounds = dict.fromkeys(STEPS[name][0] for name in only)
        contenders: dict[str, Callable[[Path], None]] = {
            each: lambda scratch, each=each: {"decode": decode, "copy": copy}[each](files, threads, scratch)
            for each in bounds
        }
        for each in only:
            contenders[each] = lambda scratch, each=each: preprocess(
                each, source, chosen.photos, chosen.workers, scratch
            )
        wall: dict[str, list[float]] = {name: [] for name in contenders}
        cpu: dict[str, list[float]] = {name: [] for name in contenders}
        for round_ in range(chosen.rounds + 1):
            for name in [*list(contenders)[round_ % len(contenders) :], *list(contenders)[: round_ % len(contenders)]]:
                scratch = Path(held) / "out"
                shutil.rmtree(scratch, ignore_errors=True)
                os.sync()  # what the one before has written is not to be paid by the next
                began, used = time.perf_counter(), sum(os.times()[:4])
                contenders[name](scratch)
                if round_:  # the first round fills the page cache
                    wall[name].append(time.perf_counter() - began)
                    cpu[name].append(sum(os.times()[:4]) - used)
                print(".", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        report(wall, cpu, chosen, size)


def report(wall: Any, cpu: Any, chosen: argparse.Namespace, size: int) -> None:
    photos = chosen.photos
    print(
        f"{photos:,} photos of {size / photos / 1e3:.0f} kB, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"workers={chosen.workers}, median of {chosen.rounds}\n"
    )
    print("| | photos/s | least to most | CPU ms a photo | against | of its wall time | of its CPU time |")
    print("|---|---:|---:|---:|---|---:|---:|")
    for name in wall:
        taken, used = statistics.median(wall[name]), statistics.median(cpu[name])
        bound = STEPS[name][0] if name in STEPS else ""
        of_wall = f"{statistics.median(wall[bound]) / taken:.2f}" if bound else ""
        of_cpu = f"{statistics.median(cpu[bound]) / used:.2f}" if bound else ""
        print(
            f"| {name} | {photos / taken:,.0f} | {photos / max(wall[name]):,.0f} to {photos / min(wall[name]):,.0f} "
            f"| {used / photos * 1e3:.3f} | {bound} | {of_wall} | {of_cpu} |"
        )


if __name__ == "__main__":
    main()
