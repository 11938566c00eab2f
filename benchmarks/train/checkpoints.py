"""How long does a training run stand still for a checkpoint: written beside the steps, and waited for?

What enters: nothing. What leaves: a table and, with --json, an object: seconds of a step, seconds that the loop spent
on a checkpoint of an interval (without the last one of a run, which is always waited for), for each `checkpoint_lag`.

In each round every lag takes its turn, so that a busy machine slows them alike; medians over all checkpoints. With a
lag of 1 the write has the next step to hide behind, with more as many steps; what it cannot hide is the copy, and the
processor time and disk that it shares with the steps. The steps compute on one thread: the second core is the write's.

    python benchmarks/train/checkpoints.py              # 28 million parameters, 340 MB a checkpoint
    python benchmarks/train/checkpoints.py --width 128 --layers 2 --rounds 1 --steps 8
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

LAGS: Final = (0, 1, 3)
EVERY: Final = 4
VOCAB, LENGTH, ROWS = 2048, 128, 8


class Rows:
    """The same batch for ever, and a place in it."""

    def __init__(self) -> None:
        import torch

        tokens = torch.randint(0, VOCAB, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
        self.batch, self.position = {"tokens": tokens}, 0

    def __iter__(self) -> Any:
        while True:
            self.position += 1
            yield self.batch

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: Any) -> None:
        self.position = state["position"]


def run(out: Path, lag: int, told: argparse.Namespace) -> tuple[list[float], list[float], int]:
    """Seconds of each step without a checkpoint's part, seconds of each checkpoint but the last, bytes of one."""
    from datapipe import events
    from datapipe.train import GPTConfig, TrainConfig, train

    shape = GPTConfig(vocab_size=VOCAB, seq_len=LENGTH, layers=told.layers, heads=8, width=told.width)
    config = TrainConfig(
        steps=told.steps,
        model=shape,
        device="cpu",
        precision="fp32",
        checkpoint_every=EVERY,
        checkpoint_lag=lag,
        keep=1,
    )
    with events.recording(events.Recorder()) as recorder:
        result = train(config, Rows(), out=out)
    spans = recorder.spans()

    def seconds(name: str) -> dict[int, float]:
        found: dict[int, float] = {}
        for span in spans[spans["stage"] == recorder.stage(name)]:
            found[int(span["item"])] = found.get(int(span["item"]), 0.0) + (span["end"] - span["start"]) / 1e9
        return found

    stops, steps = seconds("checkpoint"), seconds("step")
    # A write begun in one step and waited for in a later one is one checkpoint.
    each = [
        sum(stops.get(item, 0.0) for item in range(begun, min(begun + EVERY, told.steps - 1)))
        for begun in range(EVERY - 1, told.steps - 1, EVERY)
    ]
    size = sum(path.stat().st_size for path in result.checkpoint.iterdir())
    return [took - stops.get(item, 0.0) for item, took in steps.items()], each, size


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("width", 512), ("layers", 8), ("rounds", 3), ("steps", 16)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    found: dict[int, tuple[list[float], list[float]]] = {lag: ([], []) for lag in LAGS}
    size = 0
    for _ in range(told.rounds):
        for lag in LAGS:
            with tempfile.TemporaryDirectory() as folder:
                steps, stops, size = run(Path(folder), lag, told)
            found[lag][0].extend(steps[1:])
            found[lag][1].extend(stops)
    rows = [
        {"lag": lag, "step_s": statistics.median(steps), "checkpoint_s": statistics.median(stops),
         "least_s": min(stops), "most_s": max(stops), "checkpoints": len(stops)}
        for lag, (steps, stops) in found.items()
    ]  # fmt: skip
    about = {"bytes": size, "cpus": os.cpu_count(), "load": os.getloadavg()[0], "machine": platform.machine()}
    if told.json:
        print(json.dumps({**about, "rows": rows}))
        return
    print(f"{size / 1e6:.0f} MB a checkpoint; {about['cpus']} CPUs, load {about['load']:.1f}")
    print(
        "| lag | step, s | standing still for a checkpoint, s | least to most | checkpoints |\n"
        "|---:|---:|---:|---:|---:|"
    )
    for row in rows:
        print(
            f"| {row['lag']} | {row['step_s']:.2f} | {row['checkpoint_s']:.2f} | {row['least_s']:.2f} to "
            f"{row['most_s']:.2f} | {row['checkpoints']} |"
        )


if __name__ == "__main__":
    main()
