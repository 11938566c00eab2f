"""The other side of near_duplicates.py: one peer's near or exact deduplication. Runs in the peer's own environment.

    PEER/bin/python near_duplicates_peer.py rensa|datatrove|textdedup|polars INPUT_FOLDER OUTPUT_FOLDER PROCESSES

INPUT_FOLDER: Parquet files with `id` and `text`. OUTPUT_FOLDER gets the rows that stay, and kept.json: their ids, the
version of the peer, and seconds from the first byte read to the last written (imports not counted).
"""

import json
import multiprocessing
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

BANDS, ROWS, WORDS = 14, 8, 5


def files(folder):
    return sorted(map(str, Path(folder).glob("*.parquet")))


def grams(text):
    words = re.findall(r"\w+", text.lower())
    return [" ".join(words[i : i + WORDS]) for i in range(max(1, len(words) - WORDS + 1))]


def rensa_file(path):
    """Signatures of one file: the rows of ids, and the bands of each."""
    import polars as pl
    from rensa import RMinHash

    table = pl.read_parquet(path)
    signed = []
    for text in table["text"].to_list():
        sketch = RMinHash(num_perm=BANDS * ROWS, seed=42)
        sketch.update(grams(text))
        digest = sketch.digest()
        signed.append([hash(tuple(digest[i * ROWS : (i + 1) * ROWS])) for i in range(BANDS)])
    return table["id"].to_list(), signed


def rensa(source, target, processes):
    """Bands alone: documents that share one are one cluster, the first stays."""
    import polars as pl

    with multiprocessing.get_context("fork").Pool(processes) as pool:
        parts = pool.map(rensa_file, files(source)) if processes > 1 else [rensa_file(path) for path in files(source)]
    ids = [each for part, _ in parts for each in part]
    parent = list(range(len(ids)))

    def root(node):
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    first = {}
    for number, bands in enumerate(band for _, signed in parts for band in signed):
        for place, band in enumerate(bands):
            other = root(first.setdefault((place, band), number))
            mine = root(number)
            parent[max(mine, other)] = min(mine, other)
    kept = {each for number, each in enumerate(ids) if root(number) == number}
    for path in files(source):
        table = pl.read_parquet(path).filter(pl.col("id").is_in(list(kept)))
        table.write_parquet(Path(target, Path(path).name), compression="zstd")
    return kept, version("rensa")


def polars(source, target, processes):
    """Exact: unique on a 64-bit hash, the first kept, in memory."""
    del processes
    import polars as pl

    table = pl.read_parquet(files(source)).with_columns(h=pl.col("text").hash())
    table = table.unique("h", keep="first", maintain_order=True).drop("h")
    size = -(-len(table) // 4)
    for i in range(4):
        table.slice(i * size, size).write_parquet(Path(target, f"part-{i}.parquet"), compression="zstd")
    return set(table["id"].to_list()), version("polars")


def datatrove(source, target, processes):
    """Its four MinHash stages, as its own example has them."""
    import pyarrow.dataset as ds
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(
        hash_config=HashConfig(precision=64), n_grams=WORDS, num_buckets=BANDS, hashes_per_bucket=ROWS
    )
    tasks = len(files(source))

    def run(pipeline, tasks, name):
        LocalPipelineExecutor(
            pipeline=pipeline, tasks=tasks, workers=min(processes, tasks), logging_dir=f"{target}/logs/{name}"
        ).run()

    read = ParquetReader(source, text_key="text", id_key="id")
    run([read, MinhashDedupSignature(output_folder=f"{target}/sig", config=config)], tasks, "sign")
    run(
        [MinhashDedupBuckets(input_folder=f"{target}/sig", output_folder=f"{target}/buckets", config=config)],
        BANDS,
        "buckets",
    )
    run(
        [MinhashDedupCluster(input_folder=f"{target}/buckets", output_folder=f"{target}/remove", config=config)],
        1,
        "cluster",
    )
    run([read, MinhashDedupFilter(input_folder=f"{target}/remove"), ParquetWriter(f"{target}/out")], tasks, "filter")
    return set(ds.dataset(f"{target}/out").to_table(["id"])["id"].to_pylist()), version("datatrove")


def textdedup(source, target, processes):
    """Its command, with xxh3, which it recommends for speed."""
    from datasets import load_from_disk

    command = [sys.executable, "-m", "text_dedup.minhash", "--path", "parquet", "--data_files", f"{source}/*.parquet"]
    command += ["--split", "train", "--column", "text", "--output", f"{target}/out", "--cache_dir", f"{target}/cache"]
    command += ["--ngram", str(WORDS), "--b", str(BANDS), "--r", str(ROWS), "--num_perm", str(BANDS * ROWS)]
    command += ["--min_length", "0", "--hash_func", "xxh3", "--num_proc", str(processes)]
    subprocess.run(command, check=True)
    return set(load_from_disk(f"{target}/out")["id"]), version("text-dedup")


if __name__ == "__main__":
    name, source, target, processes = sys.argv[1:5]
    Path(target).mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    kept, release = globals()[name](source, target, int(processes))
    seconds = time.perf_counter() - began
    Path(target, "kept.json").write_text(
        json.dumps({"seconds": seconds, "version": release, "kept": sorted(kept)})
    )  # fmt: skip
