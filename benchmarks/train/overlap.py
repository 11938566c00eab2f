"""Does the loader's work hide behind the training step? A transform that costs 0.8 of the compute, on a CPU.

What enters: nothing. What leaves: a table and, with --json, an object: seconds a step of the compute alone, of the data
alone, of the run that has both, and their ratio run / max(compute, data). The aim is 1.05.

In each round all four take turns, so that a busy machine slows them alike; medians over the rounds. "Side by side" is
what the machine itself can do: the same compute and the same transform at once, in two processes that share nothing but
the cores' caches, clock and execution units. The run cannot be faster than that. Two figures hold on a busy machine as
well: the share of the run spent waiting for a batch, and the processor time of its compute beside that of the compute
alone (what is above 1 goes to caches and execution units that two cores share).

    python benchmarks/train/overlap.py                  # two cores: one computes, one transforms
    python benchmarks/train/overlap.py --kind python    # a transform that holds Python's lock, in worker processes
    python benchmarks/train/overlap.py --kind sleep     # both only wait: what is left is the loader's own doing, to be
                                                        # measured on a machine that is busy with other things
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

ROWS, LENGTH, BATCH, VOCAB = 4096, 128, 8, 2048
SHARE: Final = 0.8
"""Of the compute step, that the transform takes."""
LEAD: Final = 3
"""Steps at the beginning that are not counted: threads start, caches fill."""
SLEEP: Final = 0.1
"""Seconds of a compute step that only waits, as for a device."""
KINDS: Final = ("numpy", "python", "python-in-threads", "sleep")


class Work:
    """A transform of `amount` pieces of work: sorts outside Python's lock, a loop inside it, or ms of rest."""

    def __init__(self, kind: str, amount: int) -> None:
        self.kind, self.amount = kind, amount

    def __call__(self, batch: Any) -> Any:
        if self.kind == "sleep":
            time.sleep(self.amount / 1e3)
        elif self.kind == "numpy":
            values = np.random.default_rng(0).integers(0, 1 << 30, 5_000)
            for _ in range(self.amount):
                np.sort(values)
        else:
            total = 0
            for number in range(self.amount * 1_000):
                total += number * number
        return batch


def write(folder: Path) -> None:
    """Random packed tokens."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tokens = np.random.default_rng(0).integers(1, VOCAB, ROWS * LENGTH, dtype=np.uint16)
    table = pa.table({"tokens": pa.FixedSizeListArray.from_arrays(pa.array(tokens), LENGTH)})
    pq.write_table(table, folder / "tokens.parquet", row_group_size=512)


class Ready:
    """The loader of the compute alone: one batch, again and again, at no cost."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def __iter__(self) -> Any:
        while True:
            yield self.batch

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        pass


def loader_of(folder: Path, kind: str, amount: int, threads: Any) -> Any:
    import datapipe

    workers = "process" if kind == "python" else "thread"
    return datapipe.DataLoader(
        datapipe.open_dataset(folder), BATCH, transform=Work(kind, amount), num_threads=threads, workers=workers
    )


def sleeper() -> Any:
    """A model whose step takes SLEEP seconds and no processor."""
    import torch

    class Sleeper(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def loss_sum(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
            del batch
            time.sleep(SLEEP)
            return self.weight.sum(), torch.tensor(1)

    return Sleeper()


class Took(NamedTuple):
    """Of a step: seconds, those of them waiting for its batch, and processor seconds of the thread that trains."""

    step: float
    wait: float
    cpu: float


def run(loader: Any, steps: int, kind: str) -> Took:
    """A training run on one thread of compute."""
    import datapipe.train as dt

    shape = dt.GPTConfig(vocab_size=VOCAB, seq_len=LENGTH, layers=4, heads=4, width=128)
    config = dt.TrainConfig(steps=steps, model=shape, device="cpu", precision="fp32", checkpoint_every=0, warmup=1)
    ends: list[Took] = []

    def ended(record: Any) -> None:
        ends.append(Took(time.perf_counter(), record.wait_ms / 1e3, time.thread_time()))

    with tempfile.TemporaryDirectory() as out:
        dt.train(config, loader, out=out, model=sleeper() if kind == "sleep" else None, on_step=ended)
    first, last = ends[LEAD - 1], ends[-2]  # the last step also writes the checkpoint
    count = len(ends) - 1 - LEAD
    waits = sum(each.wait for each in ends[LEAD:-1])
    return Took((last.step - first.step) / count, waits / count, (last.cpu - first.cpu) / count)


def drain(loader: Any, steps: int) -> float:
    """Seconds a batch of the data alone."""
    iterator = iter(loader)
    for _ in range(LEAD + 4):  # and those that were made ahead while nobody looked
        next(iterator)
    began = time.perf_counter()
    for _ in range(steps):
        next(iterator)
    took = (time.perf_counter() - began) / steps
    close = getattr(iterator, "close", None)
    if close is not None:
        close()
    return took


def burn(kind: str, amount: int) -> None:
    """The transform, over and over, in a process of its own, until standard input ends; prints seconds a time."""
    import select

    work, times = Work(kind, amount), []
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        began = time.perf_counter()
        work(None)
        times.append(time.perf_counter() - began)
    print(statistics.median(times or [0.0]), flush=True)


def side_by_side(compute: Any, steps: int, kind: str, amount: int) -> tuple[float, float]:
    """Seconds a step, and seconds a transform, of both at once in processes that share nothing."""
    command = [sys.executable, __file__, "--burn", kind, str(amount)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        step = run(compute, steps, kind).step
        other.stdin.close()
        return step, float(other.stdout.read())


def amount_for(kind: str, seconds: float) -> int:
    """So much work that the transform takes so many processor seconds here: the median of five."""
    if kind == "sleep":
        return round(seconds * 1e3)
    times = []
    for _ in range(5):
        began = time.thread_time()
        Work(kind, 100)(None)
        times.append((time.thread_time() - began) / 100)
    return max(1, round(seconds / statistics.median(times)))


def measure(kind: str, *, steps: int, rounds: int, threads: Any) -> dict[str, Any]:
    """All four, in turns."""
    import torch

    torch.set_num_threads(1)
    names = ("compute", "data", "run", "beside", "ratio", "of_machine", "wait", "cpu")
    found: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write(folder)
        plain = loader_of(folder, "numpy", 0, 1)
        compute = Ready(next(iter(plain)))
        plain.close()
        warm = [run(compute, steps, kind) for _ in range(3)]
        # By processor time, where there is any: on a busy machine a short burst gets more of it than a long run.
        amount = amount_for(
            kind, SHARE * statistics.median(each.step if kind == "sleep" else each.cpu for each in warm)
        )
        for _ in range(rounds):
            alone_now = run(compute, steps, kind)
            found["compute"].append(alone_now.step)
            with loader_of(folder, kind, amount, threads) as loader:
                found["data"].append(drain(loader, steps))
            with loader_of(folder, kind, amount, threads) as loader:
                both = run(loader, steps, kind)
            found["run"].append(both.step)
            found["wait"].append(both.wait / both.step)
            found["cpu"].append(both.cpu / alone_now.cpu)
            found["beside"].append(max(side_by_side(compute, steps, kind, amount)))
            found["ratio"].append(found["run"][-1] / max(found["compute"][-1], found["data"][-1]))
            found["of_machine"].append(found["run"][-1] / found["beside"][-1])
    middle = {name: statistics.median(values) for name, values in found.items()}
    return {
        "kind": kind, "threads": threads, "steps": steps, "rounds": rounds, "load": os.getloadavg()[0],
        "cores": os.cpu_count(), "machine": platform.machine(), "torch": torch.__version__, **middle,
        "data_of_compute": middle["data"] / middle["compute"],
        "spread": {name: [min(found[name]), max(found[name])] for name in ("ratio", "of_machine", "wait", "cpu")},
    }  # fmt: skip


def show(result: dict[str, Any]) -> None:
    print(f"transform: {result['kind']}, num_threads={result['threads']}, load {result['load']:.1f}")
    for name, words in (
        ("compute", "compute alone"), ("data", "data alone"), ("run", "the run"), ("beside", "side by side"),
    ):  # fmt: skip
        print(f"  {words:14} {result[name] * 1e3:8.1f} ms a step")
    for name, words in (
        ("ratio", "run / max(compute, data)"), ("of_machine", "run / side by side"),
        ("wait", "of it waiting for a batch"), ("cpu", "processor time of compute, run / alone"),
    ):  # fmt: skip
        low, high = result["spread"][name]
        print(f"  {words:40}{result[name]:6.3f}  ({low:.3f} to {high:.3f}){'; aim 1.05' * (name == 'ratio')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=KINDS, default="numpy")
    parser.add_argument("--steps", type=int, default=24, help="of each measurement, 8 or more")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", default="1", help='num_threads of the loader, or "auto"')
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--burn", nargs=2, metavar=("KIND", "AMOUNT"), help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.burn:
        burn(told.burn[0], int(told.burn[1]))
        return
    threads = told.threads if told.threads == "auto" else int(told.threads)
    result = measure(told.kind, steps=max(8, told.steps), rounds=told.rounds, threads=threads)
    if told.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
