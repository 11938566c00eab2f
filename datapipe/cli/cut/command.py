"""`datapipe cut`: where to cut between preprocessing and the loader, priced in time and storage.

What enters: inputs, a recipe, and the terms of the training (epochs, machines, prices). What leaves: a table of the
cuts, and the best as commands to type. Invariant: only a sample is run, in a temporary folder; exit 1 where no cut can
be had.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption

if TYPE_CHECKING:
    from datapipe.cli.cut.choosing import Priced, Terms
    from datapipe.cli.cut.measuring import StepCost
    from datapipe.cli.cut.sample import Sample
    from datapipe.steps import BoundStep


def cut(
    inputs: Annotated[list[str], typer.Argument(help="Inputs: files, folders, globs, URLs.")],
    recipe: Annotated[str, typer.Option(help="A shipped recipe's name, or a YAML file.")] = "text",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="step.option=value; may be given again.", metavar="STEP.OPTION=VALUE"),
    ] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the dataset that it is for.", min=0)] = 1.0,
    batch_size: Annotated[int, typer.Option(help="Rows a step.", min=1)] = 32,
    threads: Annotated[int | None, typer.Option(help="Of the loader; one per core by default.", min=1)] = None,
    workers: Annotated[int | None, typer.Option(help="That preprocess; one per core by default.", min=1)] = None,
    step_ms: Annotated[
        float, typer.Option(help="Compute of a step, as `profile` says; 0: the loader alone.", min=0)
    ] = 0.0,
    max_gib: Annotated[float | None, typer.Option(help="The most that may be stored.", min=0)] = None,
    sample_rows: Annotated[int, typer.Option(help="Rows to measure on.", min=64)] = 2000,
    json: JsonOption = False,
) -> None:
    """Say which steps to run ahead and which in the loader: each is measured on a sample, each cut priced.

    A cut can be before any step at a recipe's end that takes row by row and drops none. Nothing is written but
    temporary files.

    Example: datapipe cut docs/ --recipe mine.yaml --epochs 3 --batch-size 64 --step-ms 40 --max-gib 200
    """
    from datapipe.cli.cut.choosing import Terms, best, price
    from datapipe.cli.cut.measuring import decoding, measure
    from datapipe.cli.cut.sample import take_sample
    from datapipe.preprocess import cores, load_recipe, parse_overrides

    loaded = load_recipe(recipe, parse_overrides(set_ or []))
    with tempfile.TemporaryDirectory(prefix="datapipe-cut-") as held, console.output_aside(aside=True):
        console.say(f"  measuring on {sample_rows:,} rows at most …")
        sample = take_sample(inputs, loaded, Path(held), rows=sample_rows)
        decode = decoding(sample)
        steps, cuts = measure(
            sample, loaded, Path(held), batch_size=batch_size, threads=threads or cores(), decode=decode
        )
    terms = Terms(
        rows=sample.rows, workers=workers or cores(), epochs=epochs, batch_size=batch_size, step=step_ms / 1e3,
        most_bytes=None if max_gib is None else max_gib * 2**30,
    )  # fmt: skip
    priced = [price(one, terms) for one in cuts]
    chosen = best(priced)
    if json:
        console.emit({
            "ok": chosen is not None, "sample_rows": sample.table.num_rows, "terms": asdict(terms),
            "threads": threads or cores(), "fixed": sample.fixed, "steps": [asdict(step) for step in steps],
            "cuts": [asdict(one) for one in priced], "best": None if chosen is None else chosen.cut.after,
            "decoded": None if decode is None else asdict(decode.options),
        })  # fmt: skip
    else:
        _show(sample, steps, priced, chosen, terms, threads or cores(), decode)
    if chosen is None:
        raise typer.Exit(1)


def _show(
    sample: Sample,
    steps: list[StepCost],
    priced: list[Priced],
    chosen: Priced | None,
    terms: Terms,
    threads: int,
    decode: BoundStep | None,
) -> None:
    console.show(f"always ahead: {' → '.join(sample.fixed) or 'nothing'}")
    rows = [("step that can move", "rows/s a core ahead", "in batches", "bytes a row after it")]
    rows += [(s.name, _rate(s.ahead), _rate(s.online), f"{s.gives:,.0f}") for s in steps]
    console.show(console.table(rows, right=(1, 2, 3)))
    console.show("")
    table = [("cut after", "preprocess", "stored", "bytes/row", "loader rows/s", "stall/step", "epoch", "in all", "")]
    for one in priced:
        mark = "best" if one is chosen else "" if one.fits else "too large"
        table.append((
            one.cut.after or "(none)", _time(one.prepare), console.size(one.stored), f"{one.cut.stored:,.0f}",
            f"{one.cut.rate:,.0f}", f"{one.stall * 1e3:,.1f} ms" if terms.step else "-", _time(one.epoch),
            _time(one.total), mark,
        ))  # fmt: skip
    console.show(console.table(table, right=(1, 2, 3, 4, 5, 6, 7)))
    console.show(
        f"\n{terms.rows:,} rows, {console.count(terms.workers, 'worker')}, {console.count(threads, 'loader thread')}, "
        f"batches of {terms.batch_size}, {terms.epochs:g} epochs; from {sample.table.num_rows:,} rows of a sample."
    )
    if sample.packed:
        console.show("The recipe's pack is left out: where tokens are stored, the loader packs (datapipe.Pack).")
    decoders = [step.name for step in sample.movable if step.name in ("image_pixels", "audio_decode", "log_mel")]
    if decode is not None:
        size = decode.options.size
        console.show(f"Decoding is in the loader's rows/s: every cut is read with datapipe.Images(size={size}).")
    elif not decoders and {"image", "audio"} & {*sample.table.column_names}:
        console.show("Decoding is not in the loader's rows/s: encoded bytes are what is delivered and counted.")
    console.show(_said(priced, chosen, terms))


def _said(priced: list[Priced], chosen: Priced | None, terms: Terms) -> str:
    """The best cut as what to type, and from how many epochs another is better."""
    from datapipe.cli.cut.choosing import crossing

    if chosen is None:
        return "No cut keeps within the storage that is allowed."
    if chosen is priced[-1]:
        said = f"Run everything ahead: {' → '.join(chosen.cut.offline)} stay in the recipe."
    elif not chosen.cut.online:
        said = f"Keep {' → '.join(chosen.cut.offline) or 'what is always ahead'}, and nothing more."
    else:
        ahead = f"keep {' → '.join(chosen.cut.offline)} in the recipe and " if chosen.cut.offline else ""
        bound = ", ".join(f'bind("{name}", …)' for name in chosen.cut.online)
        said = f"{ahead}take {' → '.join(chosen.cut.online)} out: DataLoader(…, transform=steps_transform([{bound}]))"
        said = said[0].upper() + said[1:]
    if left := [name for name in priced[-1].cut.offline if name not in (*chosen.cut.offline, *chosen.cut.online)]:
        said += f"\nLeave {', '.join(left)} out of the recipe, and of the loader."
    last = priced[-1]
    turn = crossing(priced[0], last) if len(priced) > 1 else None
    if turn is not None and turn > 0:
        said += f"\nEverything ahead takes less time than nothing from {turn:,.1f} epochs on (asked: {terms.epochs:g})."
    return said


def _rate(seconds: float) -> str:
    return f"{1 / seconds:,.0f}" if seconds > 0 else "-"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.1f} s"
    return f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
