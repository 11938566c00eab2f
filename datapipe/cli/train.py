"""`datapipe train`: a run from a YAML file, watched, stopped and gone on with.

What enters: the file and overrides of it. What leaves: a run's folder, a live view on standard error, the result on
standard output. Invariant: a run that a signal has stopped exits 130, and the same command goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption, SetOption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datapipe.cli.train_parts import TrainParts
    from datapipe.train import StepRecord, TrainResult


def train(
    config: Annotated[str, typer.Argument(help="A YAML file: dataset, loader, model, train; see the README.")],
    set_: SetOption = None,
    out: Annotated[str | None, typer.Option(help="The run's folder, instead of the file's `out`.")] = None,
    resume: Annotated[
        str,
        typer.Option(
            help="auto: from the newest checkpoint if there is one; must: there has to be one; "
            "fallback: from the newest that is whole; fresh: from the first step."
        ),
    ] = "auto",
    until: Annotated[int | None, typer.Option(help="Stop after this step of the whole run.", min=1)] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write OUT/tensorboard.")] = False,
    json: JsonOption = False,
) -> None:
    """Train a model on a dataset; Ctrl-C and SIGTERM leave a checkpoint, the same command goes on from it.

    Example: datapipe train run.yaml --set train.lr=1e-3 --out runs/a --json
    """
    # Read as torch is loaded. Measured on 2 busy cores: a step takes 2.6 s with threads that spin for their turn, 0.6 s
    # with threads that sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from datapipe.cli.train_file import read_train_file
    from datapipe.cli.train_parts import open_parts
    from datapipe.errors import ConfigError
    from datapipe.preprocess import parse_overrides
    from datapipe.train.config import RESUME

    if resume not in RESUME:
        raise ConfigError(f"--resume {resume}", expected=", ".join(RESUME))
    told = read_train_file(config, parse_overrides(set_ or [], example="train.lr=1e-3"))
    folder = out or told.out
    if not folder:
        raise ConfigError("no folder for the run", expected="`out` in the file, or --out", fix="--out runs/a")
    for name in ("eval_every", "patience"):
        if told.train.get(name) and told.evaluation is None:
            error = ConfigError(
                f"{name}={told.train[name]!r}, and nothing to evaluate on",
                expected="a dataset of rows that are not trained on",
                fix="evaluation: {dataset: …}",
            )
            raise told.located(error, "train")
    # What a model or a transform of the user's prints is no result.
    with console.output_aside(aside=True):
        parts = open_parts(told)
        try:
            result = _watched(parts, folder, resume, until, board=tensorboard or told.tensorboard)
        except ConfigError as error:
            raise told.located(error, "train") from None
        finally:
            parts.close()
    if json and _speaks():
        console.emit({"ok": True, **result_facts(result)})
    elif _speaks():
        for line in result_lines(result):
            console.show(line)
    if result.stopped in {"SIGINT", "SIGTERM"}:
        raise typer.Exit(130)


def _watched(parts: TrainParts, folder: str, resume: Any, until: int | None, *, board: bool) -> TrainResult:
    from datapipe.cli.train_view import TrainView
    from datapipe.train import train as run

    # Of several processes the first speaks for all: their records are the same.
    shown = TrainView(parts.config.steps) if _speaks() else contextlib.nullcontext()
    with shown as view, _board(folder, board=board and _speaks()) as scalars:

        def on_step(record: StepRecord) -> None:
            if view is not None:
                view.update(record)
            if scalars is not None:
                scalars(record)

        return run(
            parts.config, parts.loader, out=folder, model=parts.model, evaluation=parts.evaluation, resume=resume,
            until=until, on_step=on_step,
        )  # fmt: skip


def _speaks() -> bool:
    """Whether this is the only process, or the first that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def _board(folder: str, *, board: bool) -> Iterator[Callable[[StepRecord], None] | None]:
    if not board:
        yield None
        return
    from datapipe.integrations.tensorboard import StepScalars

    scalars = StepScalars(Path(folder) / "tensorboard")
    try:
        yield scalars
    finally:
        scalars.close()


def result_facts(result: TrainResult) -> dict[str, Any]:
    """Where a run came to, as JSON values."""
    tenth = max(1, len(result.losses) // 10)
    last = [loss for loss in result.losses[-tenth:] if math.isfinite(loss)]  # an update left out may have had none
    return {
        "step": result.step, "resumed_from": result.resumed_from, "stopped": result.stopped,
        "loss": sum(last) / len(last) if last else None, "targets": result.tokens, "seconds": result.seconds,
        "targets_per_s": result.tokens_per_s, "device": result.device, "precision": result.precision,
        "parameters": result.parameters, "checkpoint": str(result.checkpoint), "metrics": str(result.metrics),
        "best": None if result.best is None else str(result.best), "best_loss": result.best_loss,
        "spikes": result.spikes,
    }  # fmt: skip


def result_lines(result: TrainResult) -> list[str]:
    """The same for a person."""
    facts = result_facts(result)
    how = {None: "complete", "patience": "stopped: evaluations came no lower", "until": "stopped as asked"}
    lines = [
        f"step {result.step}, {how.get(result.stopped, f'stopped by {result.stopped}')}"
        + (f"; went on from step {result.resumed_from}" if result.resumed_from else ""),
        f"  {result.parameters:,} parameters on {result.device}, {result.precision}",
    ]
    if facts["loss"] is not None:
        lines.append(
            f"  loss {facts['loss']:.4f} over the last tenth; {result.tokens_per_s:,.0f} targets/s,"
            f" {result.seconds:.1f} s"
        )
    if result.best_loss is not None:
        lines.append(f"  best evaluation {result.best_loss:.4f}: {result.best}")
    if result.spikes:
        lines.append(f"  {console.count(result.spikes, 'spike')}: {result.metrics.with_name('spikes.jsonl')}")
    return [*lines, f"  {result.checkpoint}", f"  {result.metrics}"]
