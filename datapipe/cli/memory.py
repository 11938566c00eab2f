"""`datapipe memory`: where the memory of a training step goes, before a run is started.

What enters: the YAML file of a run. What leaves: a table of estimate beside measurement, and how many rows would fit.
Invariant: nothing is written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption, SetOption

if TYPE_CHECKING:
    from datapipe.cli.train_parts import TrainParts
    from datapipe.train.memory_report import MemoryReport


def memory(
    config: Annotated[str, typer.Argument(help="A training run's YAML file.")],
    set_: SetOption = None,
    rows: Annotated[
        int | None, typer.Option(help="Rows at once; else train.micro_batch, or the batch's.", min=1)
    ] = None,
    measure: Annotated[bool, typer.Option("--measure/--no-measure", help="Do a step to see, or only estimate.")] = True,
    json: JsonOption = False,
) -> None:
    """Estimate the memory of a training step on one device, measure it beside, and say how many rows would fit.

    Nothing is written. Sharded over several processes, each holds less of the weights.

    Example: datapipe memory run.yaml --set loader.batch_size=64 --json
    """
    from datapipe.cli.train_file import read_train_file
    from datapipe.cli.train_parts import open_parts
    from datapipe.preprocess import parse_overrides

    told = read_train_file(config, parse_overrides(set_ or [], example="train.lr=1e-3"))
    with console.output_aside(aside=True):
        train = {name: value for name, value in told.train.items() if name != "layout"}  # one process, all of the model
        parts = open_parts(replace(told, train=train, evaluation=None))
        try:
            found = _report(parts, rows, measure=measure)
        finally:
            parts.close()
    if json:
        console.emit({"ok": True, **found.as_dict()})
        return
    for line in report_lines(found):
        console.show(line)


def report_lines(report: MemoryReport) -> list[str]:
    """What is shown: a table of the kinds, and how many rows fit."""
    body = [
        (kind, console.size(told), "" if seen is None else console.size(seen)) for kind, told, seen in report.rows()
    ]
    cells = [(name, told, seen) if any(row[2] for row in body) else (name, told) for name, told, seen in body]
    header = ("", "estimated", "measured")[: len(cells[0])]
    lines = [console.table(cells, header=header, right=(1, 2)), ""]
    where = f"{report.estimate.rows} rows at once on {report.device}, {console.size(report.capacity)}"
    if report.out_of_memory:
        lines.append(f"{where}: out of memory")
    else:
        lines.append(f"{where}: {report.estimate.total / report.capacity:.1%} of it")
    if report.fits < report.batch_rows:
        lines.append(f"by the estimate {report.fits} of the batch's {report.batch_rows} rows fit at once")
    else:
        lines.append(f"by the estimate the whole batch of {report.batch_rows} rows fits")
    return lines


def _report(parts: TrainParts, rows: int | None, *, measure: bool) -> MemoryReport:
    from datapipe.errors import TrainError
    from datapipe.train import GPT
    from datapipe.train.batches import moved, needs_moving
    from datapipe.train.layers import recompute
    from datapipe.train.memory_report import memory_report
    from datapipe.train.optimizer import make_optimizer
    from datapipe.train.out_of_memory import is_out_of_memory
    from datapipe.train.precision import choose_device, choose_precision
    from datapipe.train.random_state import seed_everything

    config = parts.config
    device = choose_device(config.device)
    seed_everything(config.seed)
    model = GPT(config.model) if parts.model is None and config.model is not None else parts.model()  # type: ignore[misc]
    model = model.to(device).train()
    if config.recompute:
        recompute(model)
    batch = next(iter(parts.loader), None)
    if batch is None:
        raise TrainError(
            "the loader has no batch", expected="a global batch of rows", fix="a smaller loader.batch_size"
        )
    batch = moved(batch, device) if needs_moving(batch, device) else batch
    told = config.micro_batch if isinstance(config.micro_batch, int) else None
    try:
        return memory_report(
            model, make_optimizer(model, config), batch, device=device,
            precision=choose_precision(config.precision, device), rows=rows or told, measure=measure,
        )  # fmt: skip
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise TrainError(
            "out of memory with four rows",
            expected="a device that holds the weights and a few rows, from which more are estimated",
            fix="recompute: true, shorter rows, a smaller model, or shards of it on more devices",
        ) from error
