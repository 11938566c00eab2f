"""What the end of a long run's profile takes: `python benchmarks/profiler_long_run.py --steps 1000000`.

A run is made up, eight or nine spans a step (a loop, four threads that make batches and one that reads blocks), and
written into the rings of a profile as fast as they are emptied. Then the profile is closed and its report written, as
at the end of a training. Told: seconds and CPU seconds of that, and the most memory the process had until the end of
recording and until the end of the report. The files go to a folder that is removed.
"""

# ruff: noqa: SLF001  (a run of days is written in seconds, with times of its own)
from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

import datapipe
from datapipe.events import Ring

US = 1_000
THREADS, PER_BLOCK, AHEAD = 4, 8, 8
NAMES = (
    "fetch",
    "decode",
    "gather",
    "transform",
    "collate",
    "wait",
    "forward",
    "backward",
    "optimizer",
    "step",
    "epoch",
)


def peak() -> float:
    """The most memory this process had, MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


class MadeUp:
    """A run, `stage, item, cause, start, end, bytes, thread` a span, in the order in which they end on each thread."""

    def __init__(self, steps: int, transform_us: int, began: int) -> None:
        self.steps, self.transform, self.began = steps, transform_us * US, began
        self.random = np.random.default_rng(0)

    def spans(self):
        """Yield spans; a step is some 1.05 ms, a batch takes a thread the transform and 0.5 ms more."""
        free, fetched, read_until = [self.began] * THREADS, self.began, {}
        taken, now = {}, self.began + 2_000 * US
        start = now
        noise = self.random.integers(0, 100 * US, 4096).tolist()
        for i in range(self.steps):
            block, thread, some = i // PER_BLOCK, i % THREADS, noise[i % 4096]
            if i % PER_BLOCK == 0:
                at = max(fetched, taken.get(i - 3 * PER_BLOCK, self.began))
                mid, fetched = at + 1_000 * US + some, at + 1_800 * US + 2 * some
                yield "fetch", block, -1, at, mid, 1 << 20, THREADS + 1
                yield "decode", block, -1, mid, fetched, 0, THREADS + 1
                read_until = {block: fetched, block - 1: read_until.get(block - 1, self.began)}
            at = max(free[thread], read_until[block], taken.pop(i - AHEAD, self.began))
            ends = (at, at + 300 * US, at + 300 * US + self.transform + some, at + 500 * US + self.transform + some)
            free[thread] = ends[3]
            for k, name in enumerate(("gather", "transform", "collate")):
                yield name, i, block if name == "gather" else i, ends[k], ends[k + 1], 0, 1 + thread
            got = max(now + 3 * US, ends[3] + 2 * US)
            cuts = (got, got + 350 * US, got + 700 * US, got + 1_000 * US + some)
            yield "wait", i, i, now, got, 0, 0
            for k, name in enumerate(("forward", "backward", "optimizer")):
                yield name, -1, -1, cuts[k], cuts[k + 1], 0, 0
            yield "step", i, -1, now, cuts[3], 0, 0
            taken[i], now = got, cuts[3]
        yield "epoch", 0, -1, start, now, 0, 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--transform-us", type=int, default=3_000, help="5000 makes the loop wait for its data")
    options = parser.parse_args()
    prof = datapipe.profile(title="made up", interval=0.02)
    with prof:
        recorder, archive = prof.recorder, prof._archive
        number = {name: recorder.stage(name) for name in NAMES}
        first = len(recorder.rings())
        for k in range(THREADS + 2):
            recorder.adopt(lambda n, k=k: Ring(8192, n, f"made-up {k}"))
        rings = recorder.rings()[first:]
        count, last = 0, 0
        for name, item, cause, start, end, nbytes, thread in MadeUp(
            options.steps, options.transform_us, prof._began
        ).spans():
            cpu = (end - start) // 10 if name in ("wait", "fetch") else end - start
            rings[thread].write(number[name], item, start, start, end, end, nbytes, cpu, cause)
            count, last = count + 1, max(last, end)
            if rings[thread].count % 2048 == 0:
                archive.relieve(rings[thread])
                while archive._pending() > 3 << 17 or archive._packing.locked():
                    time.sleep(0.01)
    prof._ended, prof._wall = last, last - prof._began
    recorded = peak()
    with tempfile.TemporaryDirectory() as folder:
        prof.folder = Path(folder)
        began, cpu = time.perf_counter(), time.process_time()
        prof.report()
        told = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
        files = {file.name: file.stat().st_size for file in sorted(Path(folder).iterdir())}
    summary = prof.summary()
    print(json.dumps({
        "steps": options.steps, "told": summary.series.count, "spans": count, "lost": summary.recorder.lost, **told,
        "peak_recording_mib": recorded, "peak_mib": peak(), "steady": summary.steady_steps,
        "remainder": summary.remainder_ns / summary.wall_ns, "verdict": summary.verdict.sentence, "files": files,
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
