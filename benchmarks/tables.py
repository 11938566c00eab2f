"""Tables: the recipe `table` over CSV against polars doing the same in memory; rows, statistics and memory.

    python benchmarks/tables.py [--rows 1000000] [--workers 2]
    python benchmarks/tables.py --join [--rows 1000000]         the step join, in memory and on disk, beside polars'

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


def joined(source: str, output: str, known: str, broadcast: int) -> dict[str, float]:
    """Rows joined in this process: seconds, rows without a record, and the largest memory."""
    import datapipe

    join = {"files": [known], "key": "user", "columns": ["town", "score"], "broadcast_bytes": broadcast}
    recipe = {"name": "joined", "input": {"text_column": None, "columns": ["*"]}, "steps": [{"join": join}]}
    started = time.perf_counter()
    summary = datapipe.preprocess(source, output, recipe=recipe, workers=0)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "missed": summary.counters["join.unmatched"], "peak_mb": peak}


def joined_by_polars(source: str, output: str, known: str) -> dict[str, float]:
    import polars as pl

    started = time.perf_counter()
    rows = pl.read_parquet(f"{source}/*.parquet")
    found = rows.join(pl.read_parquet(known), on="user", how="left", maintain_order="left")
    missed = found["town"].null_count()
    found.write_parquet(output, compression="zstd", row_group_size=1024)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "missed": missed, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def compare_joins(rows: int) -> None:
    """As many records as rows, a tenth of the rows without one."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "in").mkdir()
        for part in range(8):
            users = rng.integers(0, rows + rows // 9, rows // 8)
            table = pa.table({"user": [f"u{i}" for i in users], "pay": rng.random(rows // 8)})
            pq.write_table(table, root / "in" / f"{part}.parquet")
        names = [f"u{i}" for i in rng.permutation(rows)]
        towns = [f"t{i}" for i in rng.integers(0, 1000, rows)]
        pq.write_table(pa.table({"user": names, "town": towns, "score": rng.random(rows)}), root / "known.parquet")
        load = os.getloadavg()[0]

        def alone(side: str) -> dict[str, float]:
            command = [sys.executable, __file__, "--known", str(root / "known.parquet")]
            command += ["--only", side, str(root / "in"), str(root / side)]
            return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

        found = {side: alone(side) for side in ("memory", "disk", "polars")}
    assert len({each["missed"] for each in found.values()}) == 1, found
    print(f"{os.cpu_count()} cores, load {load:.1f}; {rows:,} rows and as many records, one process, warm")
    for side, each in found.items():
        print(f"{side:8} {rows / each['seconds']:>10,.0f} rows/s  {each['peak_mb']:.0f} MB")


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
    parser.add_argument("--join", action="store_true", help="measure the step join instead")
    parser.add_argument("--only", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--known", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.known:
        side, source, output = args.only
        how = {"memory": 1 << 40, "disk": 0}
        done = joined(source, output, args.known, how[side]) if side in how else None
        print(json.dumps(done or joined_by_polars(source, output, args.known)))
        return
    if args.join:
        compare_joins(args.rows)
        return
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
