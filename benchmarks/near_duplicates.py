"""Near and exact deduplication end to end, Parquet in, Parquet out, beside peers in their own environments.

What enters: a folder of Parquet files with `id` and `text`, the true pairs of it (`pairs.parquet`: a, b, jaccard, all
pairs of distinct texts of at least 0.6). What leaves: documents per second of every contender on one process and on
two, what it removed beside the ideal, recall and precision. Invariant: every contender reads the same files and writes
the rows that stay; seconds are from the first byte read to the last written, the start of worker processes included,
that of the interpreter and imports not. On a busy machine look at the documents per CPU second (of one process,
imports included). Contenders take turns; the best of the repeats counts.

    python -m venv PEER && PEER/bin/pip install rensa polars         (and datatrove in another)
    python benchmarks/near_duplicates.py --corpus FOLDER --truth FOLDER --peer rensa=PEER/bin/python
    …  --repeats 1 --log            and append the table to benchmarks/LOG.md
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

HERE = Path(__file__).parent
NEAR = {"steps": ["decode", "near_duplicates"], "output": {"columns": ["row_id", "text", "id"]}}
EXACT = {"steps": ["decode", "exact_duplicates"], "output": {"columns": ["row_id", "text", "id"]}}


def ours(recipe: dict[str, object], source: str, target: str, workers: int) -> tuple[float, float, set[str], str]:
    """Seconds, CPU seconds, ids that stay, a note."""
    path = Path(target).with_suffix(".yaml")
    path.write_text(json.dumps({"name": "bench", "seed": 0, "input": {"columns": ["id"]}, **recipe}))
    command = [sys.executable, "-m", "datapipe", "preprocess", source, target, "--recipe", str(path)]
    # One process: the tasks run in the driver.
    argv = [*command, "--workers", str(workers if workers > 1 else 0), "--json"]
    told, cpu, memory = timed(argv, POLARS_MAX_THREADS="1")
    kept = set(pl.read_parquet(sorted(Path(target, "data").iterdir()))["id"].to_list())
    return json.loads(told)["seconds"], cpu, kept, f"peak {memory >> 20} MiB"


def timed(argv: list[str], **environment: str) -> tuple[str, float, int]:
    """Run a command: what it printed, CPU seconds of it and its children, peak memory of the largest in bytes."""
    code = (
        "import json,resource,subprocess,sys\n"
        "done=subprocess.run(sys.argv[1:],check=True,stdout=subprocess.PIPE,stderr=subprocess.DEVNULL,text=True)\n"
        "use=resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([done.stdout,use.ru_utime+use.ru_stime,use.ru_maxrss<<10]))"
    )
    whole = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", code, *argv], check=True, capture_output=True, text=True, env=whole)
    told, cpu, memory = json.loads(done.stdout)
    return told, cpu, memory


def peer(name: str, python: str, source: str, target: str, processes: int) -> tuple[float, float, set[str], str]:
    """The same for a peer."""
    argv = [python, str(HERE / "near_duplicates_peer.py"), name, source, target, str(processes)]
    _, cpu, _ = timed(argv, POLARS_MAX_THREADS=str(processes))
    told = json.loads(Path(target, "kept.json").read_text())
    return told["seconds"], cpu, set(told["kept"]), f"{name} {told['version']}"


class Truth:
    """What is alike."""

    def __init__(self, corpus: str, truth: str) -> None:
        documents = pl.read_parquet(sorted(Path(corpus).glob("*.parquet"))).sort("id")
        self.ids = documents["id"].to_list()
        self.bytes = int(documents["text"].str.len_bytes().sum())
        first = documents.with_columns(first=pl.col("id").first().over("text"))
        self.copies = [(a, b) for a, b in zip(first["id"], first["first"], strict=True) if a != b]
        self.pairs = pl.read_parquet(f"{truth}/pairs.parquet")
        self.planted = pl.read_parquet(f"{truth}/planted.parquet").filter(pl.col("kind") == "near")
        self.nearest = dict.fromkeys(self.ids, 0.0)
        for a, b, jaccard in [*self.pairs.iter_rows(), *((a, b, 1.0) for a, b in self.copies)]:
            self.nearest[a], self.nearest[b] = max(self.nearest[a], jaccard), max(self.nearest[b], jaccard)

    def ideal(self, least: float) -> int:
        """Removals, if exactly the pairs of at least that similarity were linked."""
        parent = {each: each for each in self.ids}

        def root(node: str) -> str:
            while parent[node] != node:
                parent[node] = parent[parent[node]]
                node = parent[node]
            return node

        links = [(a, b) for a, b, jaccard in self.pairs.iter_rows() if jaccard >= least]
        for a, b in [*self.copies, *links]:
            low, high = sorted((root(a), root(b)))
            parent[high] = low
        return sum(parent[each] != each for each in self.ids)

    def scores(self, kept: set[str]) -> list[str]:
        """Removed; of planted near copies of at least 0.8, how many lost one of the two; precision at 0.8 and 0.7."""
        gone = [each for each in self.ids if each not in kept]
        lost = set(gone)
        alike = self.planted.filter(pl.col("jaccard") >= 0.8)
        found = [a in lost or b in lost for a, b in zip(alike["id"], alike["orig"], strict=True)]
        right = [float(np.mean([self.nearest[each] >= least for each in gone])) for least in (0.8, 0.7)]
        return [f"{len(gone):,}", f"{np.mean(found):.3f}", *(f"{each:.3f}" for each in right)]


def recall_table(corpus: str, truth: Truth) -> list[str]:
    """By similarity: true pairs, how many of them share a band, and what the formula says."""
    import pyarrow as pa

    from datapipe.steps.columns import to_arrow
    from datapipe.steps.min_hash import bands_of, recall
    from datapipe.steps.shingles import shingle_sets

    documents = pl.read_parquet(sorted(Path(corpus).glob("*.parquet")))
    place = {each: number for number, each in enumerate(documents["id"])}
    bands = bands_of(*shingle_sets(pa.chunked_array([to_arrow(documents["text"])])), 14, 8)
    a, b = (np.array([place[each] for each in truth.pairs[side]]) for side in "ab")
    jaccard = truth.pairs["jaccard"].to_numpy()
    shared = (bands[a] == bands[b]).any(axis=1)
    lines = ["| Jaccard | true pairs | share a band | the formula |", "|---|---:|---:|---:|"]
    for low in (0.6, 0.7, 0.8, 0.9):
        inside = (jaccard >= low) & (jaccard < low + 0.1 + (low == 0.9))
        expected = np.mean([recall(each, 14, 8) for each in jaccard[inside]])
        lines.append(f"| {low:.1f}–{low + 0.1:.1f} | {inside.sum():,} | {shared[inside].mean():.3f} | {expected:.3f} |")
    return lines


def main() -> None:
    """Run, print, and with --log append."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--peer", action="append", default=[], help="name=python; rensa, datatrove, textdedup, polars")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--log", action="store_true")
    chosen = parser.parse_args()
    truth = Truth(chosen.corpus, chosen.truth)
    peers = dict(each.split("=", 1) for each in chosen.peer)
    names = [("datapipe near", None), *((name, name) for name in peers if name != "polars")]
    names += [("datapipe exact", None), *(("polars unique(hash)", name) for name in peers if name == "polars")]
    best: dict[tuple[str, int], tuple[float, float, set[str], str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(chosen.repeats):
            for processes in (1, 2):
                for label, name in names:
                    if name in ("datatrove", "textdedup") and (turn or processes == 1):
                        continue  # minutes, and never close
                    target = f"{folder}/{label.split()[0]}-{label.split()[-1][:5]}-{turn}-{processes}"
                    if name is None:
                        recipe = NEAR if label == "datapipe near" else EXACT
                        got = ours(recipe, chosen.corpus, target, processes)
                    else:
                        got = peer(name, peers[name], chosen.corpus, target, processes)
                    if (label, processes) not in best or got[0] < best[label, processes][0]:
                        best[label, processes] = got
    n = len(truth.ids)
    machine = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
    load = os.getloadavg()[0]
    ideal = f"{truth.ideal(0.8):,} at J≥0.8, {truth.ideal(0.7):,} at J≥0.7"
    lines = [
        f"{n:,} documents, {truth.bytes / 1e6:.0f} MB of text, page cache warm, {machine}, load {load:.1f}.",
        f"Best of {chosen.repeats}. Ideal removals: {ideal}, {len(truth.copies):,} exact.",
        "",
        "| | docs/s ×1 | docs/s ×2 | docs per CPU second | removed | recall, planted J≥.8 | precision J≥.8 | J≥.7 | |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for label, _ in names:
        rates = [f"{n / best[label, p][0]:,.0f}" if (label, p) in best else "–" for p in (1, 2)]
        _, cpu, kept, note = best.get((label, 1), best[label, 2])
        rates.append(f"{n / cpu:,.0f}")
        lines.append(f"| {label} | {' | '.join([*rates, *truth.scores(kept)])} | {note} |")
    lines += ["", *recall_table(chosen.corpus, truth)]
    text = "\n".join(lines)
    print(text)
    if chosen.log:
        day = dt.datetime.now(tz=dt.UTC).date()
        with (HERE / "LOG.md").open("a") as log:
            log.write(f"\n## {day}: near and exact duplicates (`near_duplicates.py`)\n\n{text}\n")


if __name__ == "__main__":
    main()
