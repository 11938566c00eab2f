"""What a profile costs the run it profiles: recording on and off by turns, in stretches of one and the same run.

    python benchmarks/profiler_overhead.py [--pairs 200] [--steps 32] [--json]

One dataset, one loader, one iterator, one profile: some steps are recorded (the loop's spans and the loader's), the
next are not, and so on, many times a second, so that caches, threads and whatever else the machine does are those of
both. Which of a pair comes first alternates. Each step computes in Python (it holds the interpreter's lock, where
recording hurts most) for some milliseconds.

"recording" is the median over pairs of (on ÷ off − 1), wall and CPU time of the loop's thread, each with a bootstrap's
95% interval. On a machine that others use the wall says little: the CPU time is the figure, and for steps that compute
it is the same thing. "watching" is what no pair can show, as it never stops: the CPU time of the profile's own threads
÷ wall. "trace" is the CPU time that writing the trace took ÷ that of the recorded steps. "published" is
`Summary.overhead`. Goals: 1% recording, 3% with the trace.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import datapipe
from datapipe import events
from datapipe.profiling.chrome_trace import write_trace

WORK = {"short": 50_000, "longer": 400_000}
"""Numbers summed a step."""


def make_dataset(folder):
    random = np.random.default_rng(0)
    for part in range(4):
        table = pa.table({f"c{i}": random.standard_normal(100_000).round(2) for i in range(4)})
        pq.write_table(table, f"{folder}/{part}.parquet", row_group_size=5_000, compression="zstd")


def forever(loader):
    for epoch in itertools.count():
        loader.set_epoch(epoch)
        yield from loader


def stretch(prof, batches, steps, work, recorded):
    """Wall and CPU ns of this thread over some steps."""
    part = itertools.islice(batches, steps)
    with events.recording(prof.recorder if recorded else None):
        began = clocks()
        if recorded:
            for _ in prof.steps(part):
                with prof.phase("forward"):
                    sum(range(work))
        else:
            for _ in part:
                sum(range(work))
        return clocks() - began


def clocks():
    return np.array([time.perf_counter_ns(), time.thread_time_ns()], dtype=float)


def figure(ratios, rounds=2_000):
    """The median of some ratios less 1, and a bootstrap's 95% interval."""
    random = np.random.default_rng(0)
    medians = np.median(random.choice(ratios, (rounds, len(ratios))), axis=1) - 1
    return [float(np.median(ratios) - 1), *np.percentile(medians, [2.5, 97.5]).tolist()]


def measure(folder, work, pairs, steps):
    loader = datapipe.DataLoader(datapipe.open_dataset(folder), batch_size=512, collate="numpy", autotune=False)
    batches, ratios, spent, alone = forever(loader), [], 0.0, []
    with datapipe.profile() as prof:
        stretch(prof, batches, 10 * steps, work, False)
        for pair in range(pairs):
            first = pair % 2 == 0
            one = stretch(prof, batches, steps, work, first)
            two = stretch(prof, batches, steps, work, not first)
            on, off = (one, two) if first else (two, one)
            ratios.append(on / off)
            spent += on[1]
            alone.append(off[1] / steps)
    batches.close()
    loader.close()
    run, began = prof.raw(), time.thread_time_ns()
    write_trace(run, folder)
    trace = time.thread_time_ns() - began
    cost = prof.summary().overhead
    return {
        "recording, wall": figure(np.array(ratios)[:, 0]),
        "recording, CPU": figure(np.array(ratios)[:, 1]),
        "CPU a step, ms": float(np.median(alone)) / 1e6,
        "watching": cost.watching / prof.summary().wall_ns,
        "trace": trace / spent,
        "published": cost.share,
        "spans a step": (cost.spans + cost.elsewhere) / (pairs * steps),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_dataset(folder)
        found = {name: measure(folder, work, given.pairs, given.steps) for name, work in WORK.items()}
    about = {"python": platform.python_version(), "cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    if given.json:
        print(json.dumps(about | {"overhead": found}))
        return
    print(f"{about}, {given.pairs} pairs of {given.steps} steps")
    for row in found.values():
        print(f"  steps of {row['CPU a step, ms']:.2f} ms CPU, {row['spans a step']:.1f} spans each")
        for what in ("recording, wall", "recording, CPU"):
            middle, low, high = row[what]
            print(f"    {what:<16} {middle:+.2%} [{low:+.2%}, {high:+.2%}]")
        for what in ("watching", "trace", "published"):
            print(f"    {what:<16} {row[what]:+.2%}")


if __name__ == "__main__":
    main()
