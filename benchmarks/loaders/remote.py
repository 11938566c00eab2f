"""W5: loading from a store that takes 20 ms to begin an answer and gives 200 MB/s in all.

    nice python benchmarks/loaders/remote.py --data /tmp/w5 [--rows 25000] [--repeats 5]

Contenders read the same files from one server (`slow_store.py`, its own process), interleaved, in turns:
- the bound: four threads, each asking for whole row groups by range with http.client, nothing decoded;
- datapipe over http:// and over s3:// (the server's S3 part), shuffled: int64 [32, 2048], or Python strings;
- datapipe over s3:// with a cache that an epoch before has filled, and from the local folder;
- a plain scan by pyarrow's own S3 client, row group after row group, columns decoded, not shuffled.
Every sample's id is checked to have come exactly once. Figures are medians; the page cache under the server is warm,
the loader's side holds nothing (each turn opens the dataset anew: footers, connections and all are in its time).
"""

import argparse
import functools
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
T = 2048


def make(folder, rows):
    """Packed tokens as Arrow IPC and as plain Parquet, documents as zstd Parquet."""
    rng = np.random.default_rng(0)
    for kind in ("tokens-arrow", "tokens-parquet", "docs"):
        target = folder / f"{kind}-{rows}"
        count = 4 * rows if kind == "docs" else rows
        if (target / "done").exists():
            continue
        target.mkdir(parents=True, exist_ok=True)
        for shard in range(4):
            ids = np.arange(shard * count // 4, (shard + 1) * count // 4)
            if kind == "docs":
                words = np.array([f"{w:x}{'etaoin'[w % 6]}" for w in rng.integers(0, 1 << 16, 20000)])
                text = [" ".join(words[rng.integers(0, 20000, n)]) for n in rng.integers(100, 900, len(ids))]
                pq.write_table(
                    pa.table({"id": ids, "text": text}), target / f"{shard}.parquet", row_group_size=1000,
                    compression="zstd",
                )  # fmt: skip
                continue
            tokens = rng.integers(0, 50000, (len(ids), T), dtype=np.int32)
            table = pa.table({"id": ids, "tokens": pa.FixedSizeListArray.from_arrays(pa.array(tokens.ravel()), T)})
            if kind == "tokens-arrow":
                with pa.ipc.new_file(str(target / f"{shard}.arrow"), table.schema) as writer:
                    writer.write_table(table, max_chunksize=512)
            else:
                pq.write_table(
                    table, target / f"{shard}.parquet", row_group_size=512, compression="none", use_dictionary=False
                )
        (target / "done").write_text("")
    return {kind: folder / f"{kind}-{rows}" for kind in ("tokens-arrow", "tokens-parquet", "docs")}


def bound(url, folder):
    """Four ranged GETs in parallel, of 4 MB each, of every byte of the folder's files."""
    jobs = []
    for file in sorted(folder.glob("*.*")):
        size = file.stat().st_size
        jobs += [(file.name, at, min(at + (4 << 20), size)) for at in range(0, size, 4 << 20)]
    lock = threading.Lock()
    total = []

    def run():
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        buffer = memoryview(bytearray(4 << 20))
        while True:
            with lock:
                if not jobs:
                    return
                name, start, end = jobs.pop(0)
            connection.request("GET", f"/{folder.name}/{name}", headers={"Range": f"bytes={start}-{end - 1}"})
            response, got = connection.getresponse(), 0
            while got < end - start:
                got += response.readinto(buffer[got : end - start])
            response.read()
            total.append(got)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(total)


def s3_options(url):
    return {"key": "a", "secret": "b", "client_kwargs": {"endpoint_url": url, "region_name": "us-east-1"}}


def datapipe(url, folder, *, by, columns, batch, threads):
    """One shuffled epoch."""
    from datapipe import DataLoader, open_dataset

    where = {"http": f"{url}/{folder.name}", "local": str(folder)}.get(by, f"s3://bucket/{folder.name}")
    more = {"cache": str(folder.parent / "cache")} if by == "cached" else {}
    if by in ("s3", "cached"):
        more["storage_options"] = s3_options(url)
    dataset = open_dataset(where, columns=["id", *columns], **more)
    options = {} if threads == "auto" else {"num_threads": threads}
    seen = []
    with DataLoader(dataset, batch, tail="partial", collate="numpy", **options) as loader:
        seen.extend(batch["id"].copy() for batch in loader)
        peak = loader.stats()["peak_bytes"]
    return np.concatenate(seen), {"peak": peak, **(vars(dataset.store.counts) if by in ("http", "s3") else {})}


def pyarrow_s3(url, folder, *, columns):
    """Row group after row group, by pyarrow's S3 client; Arrow IPC batch after batch."""
    from pyarrow import fs

    remote = fs.S3FileSystem(
        access_key="a", secret_key="b", endpoint_override=url.removeprefix("http://"), scheme="http", region="us-east-1"
    )
    seen = []
    for file in sorted(folder.glob("*.*")):
        path = f"bucket/{folder.name}/{file.name}"
        if file.suffix == ".parquet":
            reader = pq.ParquetFile(path, filesystem=remote, pre_buffer=True)
            seen += [t["id"].to_numpy() for t in reader.iter_batches(columns=["id", *columns], batch_size=1 << 20)]
        else:
            reader = pa.ipc.open_file(remote.open_input_file(path))
            seen += [reader.get_batch(i)["id"].to_numpy() for i in range(reader.num_record_batches)]
    return np.concatenate(seen), {}


def import_all(url):
    """What is imported at the first use is in nobody's time."""
    from datapipe import DataLoader
    from datapipe.storage import open_store

    del DataLoader
    open_store(url).exists("none")
    open_store("s3://bucket", storage_options=s3_options(url)).exists("none")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="/tmp/w5")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--latency", type=float, default=0.02)
    parser.add_argument("--bandwidth", type=float, default=200e6)
    parser.add_argument("--threads", default="auto")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    threads = options.threads if options.threads == "auto" else int(options.threads)
    folders = make(Path(options.data), options.rows)
    command = [sys.executable, str(HERE / "slow_store.py"), options.data]
    command += ["--latency", str(options.latency), "--bandwidth", str(options.bandwidth)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    options.rows -= options.rows % 4
    results, extras, filled = {}, {}, set()
    try:
        url = server.stdout.readline().strip()
        import_all(url)
        for _ in range(options.repeats + 1):  # the first fills the cache
            for kind, folder in folders.items():
                column, batch = (["text"], 64) if kind == "docs" else (["tokens"], 32)
                turn = functools.partial(datapipe, url, folder, columns=column, batch=batch, threads=threads)
                contenders = {
                    "four ranged GETs": lambda folder=folder: bound(url, folder),
                    **{f"datapipe {by}": functools.partial(turn, by=by) for by in ("http", "s3", "cached", "local")},
                    "pyarrow s3 scan": lambda f=folder, c=column: pyarrow_s3(url, f, columns=c),
                }
                for name, run in contenders.items():
                    if options.only not in f"{kind} {name}":
                        continue
                    cpu, began = time.process_time(), time.perf_counter()
                    out = run()
                    took = time.perf_counter() - began
                    rows = 4 * options.rows if kind == "docs" else options.rows
                    if isinstance(out, tuple):
                        assert sorted(out[0].tolist()) == list(range(rows)), f"{name}: not every sample once"
                        extras[kind, name] = {**out[1], "cpu_s": round(time.process_time() - cpu, 2)}
                    if (kind, name) in filled or "cached" not in name:
                        results.setdefault((kind, name), []).append(rows / took)
                    filled.add((kind, name))
    finally:
        server.kill()
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}")
    for (kind, name), speeds in results.items():
        middle = statistics.median(speeds)
        base = statistics.median(results.get((kind, "four ranged GETs"), [middle]))
        extra = json.dumps(extras.get((kind, name), {}))
        print(f"{kind:15s} {name:18s} {middle:9,.0f} samples/s  {middle / base:5.2f} of the bound  {extra}")


if __name__ == "__main__":
    main()
