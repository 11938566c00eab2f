"""`datapipe shrink`: smaller and faster kin of a trained model, priced in one table.

What enters: the YAML file that the model was trained by, and how to shrink it. What leaves: files of the smaller
models, and a table. Invariant: each is priced beside the original, on the same rows and the same device.
"""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption, SetOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datapipe.cli.train_parts import TrainParts
    from datapipe.train.smaller import Price

_BATCHES = 16
"""Evaluated on where the file has no `evaluation`."""


def shrink(
    config: Annotated[str, typer.Argument(help="The YAML file that `datapipe train` was given.")],
    method: Annotated[
        list[str] | None, typer.Option(help="continued, lora, distil, magnitude, structured, int8; else all.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The trained run or an exported file; else the file's `out`.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the models go; else beside the run, with -smaller.")] = None,
    steps: Annotated[int, typer.Option(help="Of training that follow each method.", min=1)] = 100,
    lr: Annotated[float | None, typer.Option(help="Their learning rate; else after the run's own.")] = None,
    share: Annotated[float, typer.Option(help="Of weights or channels that are pruned.")] = 0.5,
    layers: Annotated[int | None, typer.Option(help="Of the distilled student; else half.", min=1)] = None,
    rank: Annotated[int, typer.Option(help="Of LoRA's adapters.", min=1)] = 8,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Make a trained GPT smaller or cheaper; size, step time, latency and loss of each beside the original's.

    Times are measured in turns, so that a busy machine makes none look better. Stopped, the same command goes on.

    Example: datapipe shrink run.yaml --method structured --method int8 --steps 200 --json
    """
    from datapipe.cli.train_file import read_train_file
    from datapipe.cli.train_parts import open_parts
    from datapipe.errors import ConfigError
    from datapipe.preprocess import parse_overrides
    from datapipe.train.smaller import METHODS, Recipe

    recipe = Recipe(
        methods=tuple(method) if method else METHODS, steps=steps, lr=lr, share=share, layers=layers, rank=rank
    )
    told = read_train_file(config, parse_overrides(set_ or [], example="train.lr=1e-3"))
    place = run or (Path(told.out) if told.out else None)
    if place is None:
        raise ConfigError("no run to begin with", expected="`out` in the file, or --run", fix="--run runs/a")
    folder = out or place.with_name(f"{place.stem}-smaller")
    with console.output_aside(aside=True):
        parts = open_parts(told)
        try:
            found = _priced(parts, place, folder, recipe)
        finally:
            parts.close()
    if json:
        console.emit({"ok": True, "models": [price.as_dict() for price in found], "out": str(folder)})
        return
    console.show(_table(found))
    for price in found:
        if price.file is not None:
            console.show(f"  {price.file}")


def _priced(parts: TrainParts, place: Path, folder: Path, recipe: Any) -> list[Price]:
    from datapipe.errors import ConfigError
    from datapipe.train.smaller import prices, shrink
    from datapipe.train.trained import trained_gpt

    model, step = trained_gpt(place)
    loader = parts.loader
    held_out: Any = parts.evaluation
    first = loader.state_dict()
    epoch: Any = iter(loader)
    with contextlib.closing(epoch) as batches:
        seen = list(itertools.islice(batches, 1 if held_out is not None else _BATCHES))
    if not seen:
        raise ConfigError("a loader that gives no batch", fix="a smaller batch_size, or more rows")
    if held_out is None:
        console.say(f"no evaluation in the file: losses are of {len(seen)} batches of training rows")
        held_out = seen
    loader.load_state_dict(first)
    made = shrink(model, parts.config, loader, recipe, out=folder, step=step, say=console.say)
    console.say("measuring …")
    return prices(made, parts.config, batch=seen[0], evaluation=held_out)


def _table(found: Sequence[Price]) -> str:
    whole = found[0]

    def beside(value: float | None, base: float | None) -> str:
        if value is None:
            return "-"
        return f"{value:.2f}" + (f" ({value / base:.2f}x)" if base and value is not base else "")

    rows = [
        (
            price.name, f"{price.parameters:,}", f"{price.zeros:.0%}",
            f"{console.size(price.bytes)} ({price.bytes / whole.bytes:.2f}x)", f"{price.trained:,}",
            beside(price.step_ms, whole.step_ms), beside(price.first_ms, whole.first_ms),
            beside(price.token_ms, whole.token_ms), f"{price.loss:.4f}",
        )
        for price in found
    ]  # fmt: skip
    head = ("model", "parameters", "zeros", "size", "trained", "step ms", "first token ms", "next token ms", "loss")
    return console.table(rows, header=head, right=tuple(range(1, len(head))))
