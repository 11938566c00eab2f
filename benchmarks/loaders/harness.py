"""One run of many loaders: every contender in a process of its own, taking turns; medians; nothing counted unchecked.

What enters: a workload (a corpus, how a batch is looked at, contenders). What leaves: a table of rates, shares of the
bound, memory and shuffle quality. Invariants: before it is timed, a contender delivers an epoch in which every sample
is found exactly once and unchanged, or it is thrown out; in each round every contender runs one epoch, so that a busy
machine slows them alike; a contender that fails is told, and the others go on.

Peers may live in environments of their own, in which datapipe need not be installed: `--peer litdata=/path/to/python`.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import gc
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from in_a_row import EPOCHS, in_a_row
from process_use import bytes_read, memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Epoch = Callable[[], Iterator[Any]]

COLD_REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One loader.

    Attributes:
        make: corpus → a function that begins an epoch. needs: the package it is of; run where that is to be found.
        order: what shuffle it claims ("uniform", "window", "none", …); it is measured beside.
        cold: whether it is run on a cold page cache too.
    """

    make: Callable[[Any], Epoch]
    needs: str = "numpy"
    order: str = "uniform"
    cold: bool = False


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is measured.

    Attributes:
        name: of the run, in the log. unit: what is counted. script: the file that defines it.
        corpus: (folder, quick) → the corpus, written if it is not there; `.rows` samples, `.total` their checksum.
        look: batch → (int64 ids of its samples, checksum). Called in the checked epoch alone.
        contenders: the first is the bound.
        files: corpus → the files whose pages are dropped for a cold run.
        versions: packages whose versions are stated.
    """

    name: str
    unit: str
    script: str
    corpus: Callable[[Path, bool], Any]
    look: Callable[[Any], tuple[np.ndarray, int]]
    contenders: dict[str, Contender]
    files: Callable[[Any], list[Path]]
    versions: tuple[str, ...] = ()
    bounds: tuple[str, ...] = ()
    says: Callable[[Any], str] = field(default=lambda corpus: f"{corpus.rows:,} samples")


# ---- one contender, in its own process


def check(workload: Workload, corpus: Any, epoch: Epoch) -> dict[str, float]:
    """One epoch, every batch looked at. Returns how well it was shuffled."""
    ids, total = [], 0
    for batch in epoch():
        found, amount = workload.look(batch)
        ids.append(np.array(found, np.int64))
        total += amount
    delivered = np.concatenate([np.zeros(0, np.int64), *ids])
    times = np.bincount(delivered, minlength=corpus.rows) if (delivered >= 0).all() else np.zeros(corpus.rows)
    if len(times) != corpus.rows or (times != 1).any():
        raise ValueError(f"{int((times[: corpus.rows] != 1).sum())} samples not delivered exactly once")
    if total != corpus.total:
        raise ValueError(f"checksum {total}, not {corpus.total}: some sample was changed")
    return quality(delivered)


def quality(ids: np.ndarray) -> dict[str, float]:
    """How an order differs from that of the files.

    moved: mean distance of a sample from its place in file order, as a share of a uniform shuffle's (a third of all).
    near: share of samples that follow one within 1% of the set (uniform: 0.02; file order: 1).
    """
    n = len(ids)
    if n < 2:
        return {"moved": 0.0, "near": 1.0}
    moved = float(np.abs(ids - np.arange(n)).mean() / (n / 3))
    return {"moved": moved, "near": float((np.abs(np.diff(ids)) <= n / 100).mean())}


def run(epoch: Epoch) -> dict[str, float]:
    """Time an epoch, or some in a row: seconds for each, and to the first batch."""
    gc.collect()
    began = time.perf_counter()
    batches, first = 0, 0.0
    for _ in range(in_a_row()):
        for _batch in epoch():
            if not batches:
                first = time.perf_counter() - began
            batches += 1
    seconds = (time.perf_counter() - began) / in_a_row()
    return {"seconds": seconds, "first": first, "batches": batches, "mb": memory(), "read": bytes_read() / 1e6}


def serve(workload: Workload, name: str, folder: Path, *, quick: bool, once: bool) -> None:
    """Be one contender: say what the check found, then an epoch for every line that comes."""
    epochs = os.environ.pop(EPOCHS, "1")
    answers = os.fdopen(os.dup(1), "w")  # what libraries print goes elsewhere
    os.dup2(2, 1)

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        corpus = workload.corpus(folder, quick)
        contender = workload.contenders[name]
        began = time.perf_counter()
        epoch = contender.make(corpus)
        made = time.perf_counter() - began
        if once:
            read = bytes_read()
            found = run(epoch)
            answer({**found, "made": made, "read": (bytes_read() - read) / 1e6})
            return
        answer({**check(workload, corpus, epoch), "made": made})
        os.environ[EPOCHS] = epochs
        for _line in sys.stdin:
            answer(run(epoch))
    except Exception as error:
        traceback.print_exc()
        answer({"error": f"{type(error).__name__}: {error}"[:300]})


# ---- all of them


class Child:
    """A contender at work."""

    def __init__(self, workload: Workload, name: str, python: str, given: argparse.Namespace, *, once: bool) -> None:
        command = [python, workload.script, "--serve", name, "--folder", str(given.folder)]
        command += ["--quick"] * given.quick + ["--once"] * once
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (read when the child failed)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            return {"error": f"ended with code {self.process.wait()}: {self.log.read()[-300:]}"}
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        return self.answer()

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


@dataclass(kw_only=True)
class Result:
    """What was measured of one contender."""

    moved: float = 0.0
    near: float = 0.0
    rounds: list[dict[str, float]] = field(default_factory=list)
    cold: list[dict[str, float]] = field(default_factory=list)
    error: str = ""


def find_python(contender: Contender, peers: dict[str, str]) -> str | None:
    if contender.needs in peers:
        return peers[contender.needs]
    return sys.executable if importlib.util.find_spec(contender.needs) is not None else None


def measure(workload: Workload, given: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Result]:
    corpus = workload.corpus(given.folder, given.quick)
    peers = dict(each.split("=", 1) for each in given.peer)
    chosen = {n: c for n, c in workload.contenders.items() if not given.only or any(o in n for o in given.only)}
    pythons = {name: find_python(contender, peers) for name, contender in chosen.items()}
    for name in [name for name, python in pythons.items() if python is None]:
        say(f"left out (no {chosen[name].needs} here): {name}")
        del chosen[name]
    results = {name: Result() for name in chosen}
    children: dict[str, Child] = {}
    try:
        for name in chosen:
            children[name] = Child(workload, name, str(pythons[name]), given, once=False)
            take(results[name], children[name].answer(), say, f"checked: {name}")
        for round_ in range(given.repeats):
            for name, child in children.items():
                if not results[name].error:
                    take(results[name], child.ask(), say, "")
            say(f"round {round_ + 1} of {given.repeats}; load {os.getloadavg()[0]:.1f}")
    finally:
        for child in children.values():
            child.end()
    if given.cold:
        for _ in range(COLD_REPEATS):
            for name in [n for n, c in chosen.items() if c.cold and not results[n].error]:
                drop_pages(workload.files(corpus))
                child = Child(workload, name, str(pythons[name]), given, once=True)
                found = child.answer()
                child.end()
                if "error" in found:
                    say(f"cold: {name}: {found['error']}")
                else:
                    results[name].cold.append(found)
    return results


def take(result: Result, found: dict[str, Any], say: Callable[[str], None], told: str) -> None:
    if "error" in found:
        result.error = str(found["error"])
        say(f"failed: {told.removeprefix('checked: ')} {result.error}")
    elif "seconds" in found:
        result.rounds.append(found)
    else:
        result.moved, result.near = found["moved"], found["near"]
        say(f"{told} (made in {found['made']:.2f} s)")


def drop_pages(files: list[Path]) -> None:
    """Have the kernel forget what it holds of these files."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# ---- what is said of it


def table(workload: Workload, corpus: Any, results: dict[str, Result]) -> str:
    """Markdown: medians, shares of the bounds, spread, memory, shuffle."""
    rates = {
        name: [corpus.rows / each["seconds"] for each in result.rounds]
        for name, result in results.items()
        if result.rounds
    }
    bounds = [name for name in (workload.bounds or tuple(workload.contenders)[:1]) if name in rates]
    head = f"| loader | {workload.unit}/s (median) | least to most |"
    rule = "|---|---:|---:|"
    for name in bounds:
        head += f" of {name.split(':')[0]} |"
        rule += "---:|"
    lines = [head + " first batch, ms | MB | moved | near |", rule + "---:|---:|---:|---:|"]
    for name, result in results.items():
        if not result.rounds:
            lines.append(f"| {name} | failed: {result.error.splitlines()[0][:100]} |")
            continue
        middle = statistics.median(rates[name])
        line = f"| {name} | {middle:,.0f} | {min(rates[name]):,.0f} to {max(rates[name]):,.0f} |"
        for bound in bounds:
            # Of each round the ratio, then the median of the ratios: what slowed a round slowed both.
            both = zip(rates[name], rates[bound], strict=False)
            line += f" {statistics.median(a / b for a, b in both):.2f} |"
        first = statistics.median(each["first"] for each in result.rounds) * 1000
        line += f" {first:.0f} | {max(each['mb'] for each in result.rounds):,.0f} |"
        lines.append(line + f" {result.moved:.2f} | {result.near:.3f} |")
    cold = {name: result.cold for name, result in results.items() if result.cold}
    if cold:
        lines += ["", f"Cold page cache, median of {COLD_REPEATS}, in a new process each:", ""]
        lines += [f"| loader | {workload.unit}/s | first batch, ms | MB read from disk |", "|---|---:|---:|---:|"]
        for name, each in cold.items():
            rate = statistics.median(corpus.rows / one["seconds"] for one in each)
            first = statistics.median(one["made"] + one["first"] for one in each) * 1000
            read = statistics.median(one["read"] for one in each)
            lines.append(f"| {name} | {rate:,.0f} | {first:.0f} | {read:,.0f} |")
    return "\n".join(lines)


def machine(names: tuple[str, ...]) -> str:
    """What the numbers hold for."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    found = []
    for name in ("numpy", "pyarrow", *names):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return (
        f"{os.cpu_count()} CPUs ({model}), load {os.getloadavg()[0]:.1f}, Python {platform.python_version()},"
        f" {', '.join(found)}"
    )


def peer_versions(peers: list[str]) -> str:
    found = []
    for peer in peers:
        name, python = peer.split("=", 1)
        code = f"import importlib.metadata as m; print(m.version({DISTRIBUTIONS.get(name, name)!r}))"
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        found.append(f"{name} {done.stdout.strip() or '(version unknown)'}")
    return "; ".join(found)


DISTRIBUTIONS = {"streaming": "mosaicml-streaming", "lance": "pylance"}
"""Where a package is not called what it is installed as."""


def main(workload: Workload) -> None:
    """The command line of a benchmark."""
    parser = argparse.ArgumentParser(description=f"{workload.name}: {(__doc__ or '').splitlines()[0]}")
    parser.add_argument("--quick", action="store_true", help="a small corpus, to see that everything runs")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1, help="in a row, of one loader, in each round")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "datapipe-benchmarks")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="contenders whose name has it")
    parser.add_argument(
        "--peer", action="append", default=[], metavar="PACKAGE=PYTHON", help="where a peer is installed"
    )
    parser.add_argument("--cold", action="store_true", help="measure with a cold page cache too")
    parser.add_argument("--log", action="store_true", help="append the table to benchmarks/LOG.md")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(workload, given.serve, given.folder, quick=given.quick, once=given.once)
        return
    before = machine(workload.versions)
    os.environ[EPOCHS] = str(given.epochs)
    results = measure(workload, given, lambda text: print(text, file=sys.stderr) if text else None)
    corpus = workload.corpus(given.folder, given.quick)
    text = f"{workload.says(corpus)}; {before}; page cache warm; median of {given.repeats}, taken in turns"
    text += f"; {given.epochs} epochs in a row each" if given.epochs > 1 else ""
    if given.peer:
        text += f"; {peer_versions(given.peer)}"
    text += ".\nmoved: mean distance from file order, 1 = uniform; near: see `harness.py`, uniform 0.02.\n\n"
    text += table(workload, corpus, results)
    print(text)
    if given.log:
        with (Path(__file__).parents[1] / "LOG.md").open("a") as log:
            log.write(f"\n## {dt.datetime.now(tz=dt.UTC).date()}: {workload.name}\n\n{text}\n")
