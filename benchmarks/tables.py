"""Tables: the recipe `table` over CSV against polars doing the same in memory; rows, statistics and memory.

    python benchmarks/tables.py [--rows 1000000] [--workers 2]

The input is made from a seed: integers, log-normal numbers with gaps, labels, ids, and some rows that do not fit. Both
sides read it warm. The pipeline's run is whole: schema, exact duplicates, normalise, categories, shuffle, shards with
checksums and manifest. The peer reads, casts, drops equal rows, scales, numbers, shuffles and writes Parquet, with all
rows in memory and no account of them. Checked: both give the same number of rows, and the same mean and std.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OVERRIDES = {
    "schema.columns": {"age": "int32", "pay": "float64", "lag": "float64", "colour": "category", "user": "string"},
    "normalise.columns": {"age": "zscore", "pay": {"scale": "robust", "log": True, "fill": "median"}, "lag": "minmax"},
    "categories.columns": {"colour": {}, "user": {"buckets": 65536}},
}


def make(folder: Path, rows: int) -> int:
    """Eight CSV files; bytes."""
    import numpy as np

    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(8):
        n = rows // 8
        age, pay, lag = rng.integers(18, 90, n), rng.lognormal(3, 1, n), rng.normal(size=n)
        colour, user = rng.choice(["red", "green", "blue", "black"], n), rng.integers(0, 10**7, n)
        with (folder / f"{number}.csv").open("w") as file:
            file.write("age,pay,lag,colour,user\n")
            for i in range(n):
                a = "x" if i % 10_000 == 7 else age[i]
                file.write(f"{a},{'' if i % 20 == 3 else round(pay[i], 4)},{lag[i]:.5f},{colour[i]},u{user[i]}\n")
    return sum(path.stat().st_size for path in folder.iterdir())


def ours(source: str, output: str, workers: int) -> dict[str, float]:
    import datapipe
    from datapipe.dataset import open_dataset

    started = time.perf_counter()
    summary = datapipe.preprocess(source, output, recipe="table", workers=workers, overrides=OVERRIDES)
    seconds = time.perf_counter() - started
    found = open_dataset(output).manifest.statistics["normalise"]["columns"]["age"]
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"seconds": seconds, "rows": summary.rows, "mean": found["mean"], "std": found["std"], "worker_mb": children,
            "stages": summary.stages}  # fmt: skip


def peer(source: str, output: str) -> dict[str, float]:
    import polars as pl

    started = time.perf_counter()
    frame = pl.read_csv(f"{source}/*.csv", infer_schema=False)
    frame = frame.with_columns(
        pl.col("age").cast(pl.Int32, strict=False), pl.col("pay", "lag").cast(pl.Float64, strict=False)
    ).filter(pl.col("age").is_not_null())
    frame = frame.unique(maintain_order=True, keep="first")
    mean, std = frame["age"].mean(), frame["age"].std(ddof=0)
    logs = (pl.col("pay").fill_null(pl.col("pay").median()) + 1).log()
    ids = frame["colour"].value_counts(sort=True)["colour"].to_list()
    frame = frame.with_columns(
        ((pl.col("age") - mean) / std).cast(pl.Float32),
        ((logs - logs.median()) / (logs.quantile(0.75) - logs.quantile(0.25))).cast(pl.Float32).alias("pay"),
        ((pl.col("lag") - pl.col("lag").min()) / (pl.col("lag").max() - pl.col("lag").min())).cast(pl.Float32),
        pl.col("colour").replace_strict(ids, range(2, len(ids) + 2), return_dtype=pl.Int32),
        (pl.col("user").hash(0) % 65536).cast(pl.Int32),
    ).sample(fraction=1.0, shuffle=True, seed=0)
    frame.write_parquet(output, compression="zstd", row_group_size=4096)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "rows": len(frame), "mean": mean, "std": std, "peak_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        side, source, output = args.only
        print(json.dumps(peer(source, output) if side == "peer" else ours(source, output, args.workers)))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size = make(root / "in", args.rows)
        for path in (root / "in").iterdir():
            path.read_bytes()
        load = os.getloadavg()[0]

        def alone(side: str) -> dict:
            # Each in a process of its own: the largest child of this one would be the other.
            command = [sys.executable, __file__, "--workers", str(args.workers)]
            command += ["--only", side, str(root / "in"), str(root / side)]
            return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

        other, mine = alone("peer"), alone("ours")
    assert mine["rows"] == other["rows"], (mine, other)
    assert abs(mine["mean"] - other["mean"]) < 1e-9
    assert abs(mine["std"] - other["std"]) < 1e-9
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}; {args.rows:,} rows, {size / 1e6:.0f} MB, warm"
    )
    print(f"datapipe  {args.rows / mine['seconds']:>10,.0f} rows/s  {mine['worker_mb']:.0f} MB in a worker at most")
    print(f"polars    {args.rows / other['seconds']:>10,.0f} rows/s  {other['peak_mb']:.0f} MB, in memory, no accounts")
    print(f"ratio     {other['seconds'] / mine['seconds']:.3f}")
    print({name: round(seconds, 2) for name, seconds in mine["stages"].items()})


if __name__ == "__main__":
    main()
