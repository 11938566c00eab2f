"""Whole runs of `datapipe preprocess`: beside datatrove's pipeline, beside a bare copy, by workers and by size.

    python benchmarks/preprocessing.py --jsonl FOLDER --parquet FOLDER --tokenizer FILE [--peer PYTHON] [--copies 1,10]

--jsonl: jsonl.gz files with `text`, for the end-to-end run. --parquet: Parquet files with `text`, for the copy, the
scaling and the memory. --peer: a Python with datatrove, in an environment of its own (see preprocessing_peer.py for
the steps). --copies: how many times the Parquet files are taken for the memory at size; each copy's texts differ, so
that nothing is a duplicate. Every run is a command of its own, start-up included, timed by the clock; every
contender's documents are counted, and those of a run with the ledger must add up, or the run fails by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent
PREPROCESS = [str(Path(sys.executable).with_name("datapipe")), "preprocess"]
COPY = """
import os, sys, time
os.environ["POLARS_MAX_THREADS"] = "1"
import polars as pl
from pathlib import Path
start = time.perf_counter()
for path in sorted(Path(sys.argv[1]).glob("*.parquet")):
    pl.read_parquet(path).write_parquet(Path(sys.argv[2]) / path.name, compression="zstd")
print(time.perf_counter() - start)
"""


def main() -> None:
    """Measure what there is input for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jsonl", type=Path)
    parser.add_argument("--parquet", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--peer")
    parser.add_argument("--copies", default="")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    print(f"{'what':<58}{'seconds':>9}{'docs/s':>9}{'ratio':>8}  remarks")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if args.jsonl and args.tokenizer:
            end_to_end(args.jsonl, args.tokenizer, args.peer, work)
        if args.parquet:
            bare_copy(args.parquet, work)
            scaling(args.parquet, work)
            for copies in filter(None, args.copies.split(",")):
                at_size(args.parquet, int(copies), work)
    print(f"load {os.getloadavg()[0]:.1f} at the end")


def end_to_end(source: Path, tokenizer: Path, peer: str | None, work: Path) -> None:
    """jsonl.gz → Unicode fix, Gopher quality, exact and near duplicates, tokens, packed rows → shards."""
    steps = ["decode", "unicode", "gopher_quality@datatrove", "exact_duplicates", "near_duplicates"]
    last = [{"tokenize": {"tokenizer": str(tokenizer.resolve())}}, {"pack": {"seq_len": 2048}}]
    seconds, run, peak = preprocess(source, work / "e2e", [*steps, *last], 2)
    line("jsonl.gz → … → packed shards, 2 workers", seconds, run["documents_in"], None, f"{peak}")
    again, rerun, _ = preprocess(source, work / "e2e", [*steps, *last], 2)
    line("the same again: nothing to do", again, rerun["documents_in"], None, f"{rerun['tasks_run']} tasks run")
    if peer is None:
        print("datatrove: not run (no --peer)")
        return
    command = [peer, str(HERE / "preprocessing_peer.py"), str(source), str(work / "peer"), str(tokenizer), "2"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    theirs = json.loads(out)
    remark = f"datatrove {theirs['version']}: {theirs['documents']:,} documents left, here {run['documents_out']:,}"
    line(
        "datatrove's pipeline, 2 processes", theirs["seconds"], run["documents_in"], seconds / theirs["seconds"], remark
    )
    print(f"here is {theirs['seconds'] / seconds:.1f} × datatrove")


def bare_copy(source: Path, work: Path) -> None:
    """Read → shards and manifest, no step, beside polars reading and writing the same files; one thread each."""
    (work / "polars").mkdir()
    out = subprocess.run(
        [sys.executable, "-c", COPY, str(source), str(work / "polars")], check=True, capture_output=True, text=True
    ).stdout
    copied = float(out)
    _, run, _ = preprocess(source, work / "empty", [], 0)
    inside = sum(run["stages"].values())
    line("polars copy, one thread", copied, run["documents_in"], 1.0, "")
    line(
        "an empty recipe, in one process",
        inside,
        run["documents_in"],
        copied / inside,
        "start-up not counted in either",
    )


def scaling(source: Path, work: Path) -> None:
    """The rule sets, which are bound by the processor, on one worker and on two: the time of the stage itself."""
    steps = ["decode", "unicode", "gopher_repetition@datatrove", "gopher_quality@datatrove", "c4@datatrove"]
    found = {}
    for workers in (1, 2):
        _, run, peak = preprocess(source, work / f"scale{workers}", steps, workers)
        found[workers] = sum(run["stages"].values())
        line(
            f"rule sets, {workers} worker(s)", found[workers], run["documents_in"], found[1] / found[workers], f"{peak}"
        )


def at_size(source: Path, copies: int, work: Path) -> None:
    """The whole text recipe at a size: time a document, and the largest worker, driver and scheduler."""
    inputs = multiplied(source, copies, work)
    steps = ["decode", "unicode", "gopher_quality@datatrove", "exact_duplicates", "near_duplicates"]
    last = [{"vocabulary": {"size": 16384, "sample_bytes": 16 << 20}}, "tokenize", {"pack": {"seq_len": 1024}}]
    output = work / f"size{copies}"
    seconds, run, peak = preprocess(inputs, output, [*steps, *last], 2)
    stages = ", ".join(f"{name} {spent:.0f}" for name, spent in run["stages"].items() if spent >= 1)
    remark = f"{run['text_bytes'] / 1e6:,.0f} MB of text; {peak}; {stages}"
    line(f"text recipe with near duplicates, {copies} ×", seconds, run["documents_in"], None, remark)
    again, rerun, _ = preprocess(inputs, output, [*steps, *last], 2)
    line("  finished run again", again, rerun["documents_in"], None, f"{rerun['tasks_run']} tasks run")


def multiplied(source: Path, copies: int, work: Path) -> Path:
    """The Parquet files `copies` times, each copy's words marked so that no two texts are alike."""
    import polars as pl

    target = work / f"input{copies}"
    target.mkdir()
    for copy in range(copies):
        for path in sorted(source.glob("*.parquet")):
            table = pl.read_parquet(path, columns=["text"])
            if copy:
                table = table.with_columns(
                    pl.col("text").str.replace_all(r"([a-z]{4,})", f"${{1}}{chr(97 + copy % 26)}")
                )
            table.write_parquet(target / f"{copy:03d}-{path.name}", row_group_size=1000)
    return target


class Peaks:
    """The largest resident sizes (RssAnon, MB) of the processes below one, sampled ten times a second."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.largest: dict[int, tuple[float, str]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> str:
        """Stop; what was seen, in words."""
        self._ended.set()
        self._thread.join()
        root = self.largest.pop(self.root, (0.0, ""))[0]
        workers = [size for size, command in self.largest.values() if "spawn_main" in command]
        return f"driver and scheduler {root:,.0f} MB, largest worker {max(workers, default=0):,.0f} MB"

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            for pid in [self.root, *below(self.root)]:
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                    command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                sizes = [each for each in status.splitlines() if each.startswith("RssAnon")]
                size = int(sizes[0].split()[1]) / 1e3 if sizes else 0.0
                # A process that has ended has a name no more.
                before, called = self.largest.get(pid, (0.0, ""))
                self.largest[pid] = (max(size, before), command or called)


def below(pid: int) -> list[int]:
    """The processes that one has started, and theirs."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(each) for task in tasks for each in (task / "children").read_text().split()]
    except OSError:
        return []
    return [found for child in children for found in (child, *below(child))]


def preprocess(source: Path, output: Path, steps: list[object], workers: int) -> tuple[float, dict, str]:
    """Run the command: (seconds by the clock, what it says with --json, the largest processes)."""
    recipe = output.with_suffix(".json")
    recipe.write_text(json.dumps({"name": "bench", "steps": steps}))
    command = [*PREPROCESS, str(source), str(output), "--recipe", str(recipe), "--workers", str(workers), "--json"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        peaks = Peaks(process.pid)
        out, err = process.communicate()
    seconds = time.perf_counter() - began
    peak = peaks.close()
    if process.returncode:
        sys.exit(f"{' '.join(command)}\n{err}\n{out}")
    return seconds, json.loads(out), peak


def line(what: str, seconds: float, documents: int, ratio: float | None, remark: str) -> None:
    """A line of the table."""
    shown = "" if ratio is None else f"{ratio:.2f}"
    print(f"{what:<58}{seconds:>9.1f}{documents / seconds:>9,.0f}{shown:>8}  {remark}", flush=True)


if __name__ == "__main__":
    main()
