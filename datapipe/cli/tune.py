"""`datapipe tune`: a run's options searched for, under a budget, from the run's own file.

What enters: a YAML file of `datapipe train`, with or without a `tune` section. What leaves: OUT/best.yaml for
`datapipe train`, OUT/search.html, and a table. Invariant: the same command goes on where it was stopped.
"""

from __future__ import annotations

import contextlib
import json as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption, SetOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from datapipe.cli.train_file import TrainFile
    from datapipe.train import TrainConfig
    from datapipe.train.tuning import Contender, RangeTest, TrialRow, TuneResult


def tune(
    config: Annotated[
        str, typer.Argument(help="A YAML file of `datapipe train`; its `tune` section says what varies.")
    ],
    set_: SetOption = None,
    out: Annotated[str | None, typer.Option(help="The search's folder; else the file's `out`, with -tune.")] = None,
    budget: Annotated[str | None, typer.Option(help="90s, 10m, 2h: of all trials, over all starts.")] = None,
    trials: Annotated[int | None, typer.Option(help="How many to end at most.", min=1)] = None,
    lr_range: Annotated[bool, typer.Option("--lr-range", help="Only the learning-rate range test.")] = False,
    json: JsonOption = False,
) -> None:
    """Search learning rate, weight decay, batch size, threads and precision; the best becomes OUT/best.yaml.

    Trials are drawn by Optuna and halved at their rungs. Stopped by anything, the same command goes on.

    Example: datapipe tune run.yaml --budget 10m --out runs/search --json
    """
    from datapipe.cli.train_file import read_train_file
    from datapipe.errors import ConfigError
    from datapipe.preprocess import parse_overrides

    told = read_train_file(config, parse_overrides(set_ or [], example="train.lr=1e-3"))
    folder = out or (f"{told.out.rstrip('/')}-tune" if told.out else None)
    if not folder:
        raise ConfigError("no folder for the search", expected="`out` in the file, or --out", fix="--out runs/search")
    with console.output_aside(aside=True):
        stopped, facts, lines = (_range if lr_range else _search)(told, Path(folder), budget, trials)
    if json:
        console.emit({"ok": True, **facts})
    else:
        for line in lines:
            console.show(line)
    if stopped:
        raise typer.Exit(130)


Outcome = tuple[str | None, dict[str, Any], list[str]]


def _search(told: TrainFile, folder: Path, budget: str | None, trials: int | None) -> Outcome:
    from datapipe.cli.tune_file import current_values, plain_file, tune_options, with_values
    from datapipe.train.tuning import tune as search
    from datapipe.train.tuning.chart import search_page

    config = _config(told)
    options = tune_options(told, config, budget=budget, trials=trials)
    plan = options.plan(config.steps)
    rungs = ", ".join(f"{amount:g}" for amount in plan.amounts)
    console.say(f"{options.trials} trials at most in {options.budget_s:g} s; rungs of {rungs} {plan.resource}")
    # What the search varies is no part of what its trials share; where its runs go changes no number.
    shared = plain_file(with_values(told, dict.fromkeys(options.space))) | {"out": None}
    result = search(
        options,
        _contend(told),
        out=folder,
        steps=config.steps,
        first=current_values(told, config, options.space),
        about=json_text.dumps(shared, sort_keys=True, default=str),
        on_trial=lambda row: console.say(_line(row)),
    )
    page = folder / "search.html"
    page.write_text(search_page(result, title=f"Search of {told.where}"), encoding="utf-8")
    facts = {**result.as_dict(), "page": str(page), "config": None, "best_config": None}
    if result.best is not None:
        facts["config"] = plain_file(with_values(told, result.best.values))
        facts["best_config"] = str(_write_best(folder, result.best, plan.resource, facts["config"]))
    return result.stopped, facts, [*_table(result), f"  {page}", *_advice(facts)]


def _config(told: TrainFile) -> TrainConfig:
    """The file's own config; that its datasets open and its loader is one is seen here, before any trial."""
    from datapipe.cli.train_parts import open_parts

    parts = open_parts(told)
    parts.close()
    return parts.config


def _contend(told: TrainFile) -> Any:
    """Values → what trains with them, as `datapipe train` would make it of the file with those values."""
    from dataclasses import replace

    from datapipe.cli.train_parts import open_parts
    from datapipe.cli.tune_file import with_values
    from datapipe.train.tuning import Contender

    @contextlib.contextmanager
    def contend(values: Mapping[str, Any]) -> Iterator[Contender]:
        parts = open_parts(with_values(told, values))
        try:
            trial = replace(parts.config, keep=1, keep_best=False, patience=None, eval_every=0)
            yield Contender(config=trial, loader=parts.loader, model=parts.model, evaluation=parts.evaluation)
        finally:
            parts.close()

    return contend


def _write_best(folder: Path, best: TrialRow, unit: str, plain: Mapping[str, Any]) -> Path:
    import yaml

    path = folder / "best.yaml"
    amount, loss = best.curve[-1]
    head = f"# Trial {best.number} of the search in {folder.name}: loss {loss:.4f} at the rung of {amount:g} {unit}.\n"
    temporary = folder / ".tmp-best.yaml"
    temporary.write_text(head + yaml.safe_dump(dict(plain), sort_keys=False), encoding="utf-8")
    temporary.replace(path)
    return path


def _range(told: TrainFile, folder: Path, budget: str | None, trials: int | None) -> Outcome:
    from datapipe.cli.train_parts import open_parts
    from datapipe.errors import ConfigError
    from datapipe.train.tuning import lr_range_test
    from datapipe.train.tuning.chart import range_page

    if budget is not None or trials is not None:
        raise ConfigError(
            "--lr-range with a budget or trials", fix="--set tune.lr_range.steps=200, or leave --lr-range"
        )
    given = told.tune.get("lr_range") or {}
    if not isinstance(given, dict) or not set(given) <= {"low", "high", "steps"}:
        raise told.located(ConfigError(f"lr_range: {given!r}", expected="{low: …, high: …, steps: …}"), "tune")
    parts = open_parts(told)
    try:
        test = lr_range_test(parts.config, parts.loader, model=parts.model, **given)
    except ConfigError as error:
        raise told.located(error, "tune") from None
    finally:
        parts.close()
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "lr-range.html"
    page.write_text(range_page(test, title=f"Learning rates of {told.where}"), encoding="utf-8")
    return test.stopped, {**test.as_dict(), "page": str(page)}, [*_range_lines(test), f"  {page}"]


def _range_lines(test: RangeTest) -> list[str]:
    every = max(1, len(test.rates) // 12)
    steps = list(zip(test.rates, test.losses, test.smoothed, strict=True))[::every]
    rows = [(f"{rate:.2e}", f"{loss:.4f}", f"{smooth:.4f}") for rate, loss, smooth in steps]
    end = "the loss ran away" if test.ran_away else "to the highest rate"
    lines = [
        console.table(rows, header=("rate", "loss", "smoothed"), right=(0, 1, 2)),
        f"{len(test.rates)} steps, {end}",
    ]
    if test.tenth is not None:
        lines.append(f"a tenth of the rate of the lowest smoothed loss: {test.tenth:.3g}")
    if test.suggestion is None:
        return [*lines, f"no suggestion: {test.why}"]
    return [*lines, f"suggested: --set train.lr={test.suggestion:.3g} (there the smoothed loss fell fastest)"]


def _line(row: TrialRow) -> str:
    loss = "no loss" if row.loss is None else f"loss {row.loss:.4f} at rung {row.rung}"
    values = ", ".join(f"{name} {_short(value)}" for name, value in row.values.items())
    return f"trial {row.number}: {values}: {loss}, {row.end}" + (f" ({row.why.splitlines()[0]})" if row.why else "")


def _table(result: TuneResult) -> list[str]:
    head = ("trial", *result.space, "rung", "loss", "steps", "step ms", "s", "end")
    rows = [
        (
            str(row.number), *(_short(row.values.get(name, "")) for name in result.space), str(row.rung),
            "" if row.loss is None else f"{row.loss:.4f}", str(row.steps), f"{row.step_ms:.1f}",
            f"{row.seconds:.1f}", row.end,
        )
        for row in result.rows
    ]  # fmt: skip
    spent = f"{result.spent_s:.0f} s of {result.budget_s:.0f} s spent"
    return [
        console.table(rows, header=head, right=tuple(range(len(head) - 1))),
        spent + (f"; stopped by {result.stopped}" if result.stopped else ""),
    ]


def _advice(facts: Mapping[str, Any]) -> list[str]:
    if facts["best_config"] is None:
        reasons = [row["why"] for row in facts["trials"] if row["why"]]
        if reasons:
            return [f"no trial reached its first rung; the last one: {reasons[-1]}"]
        return ["no trial reached its first rung: a larger --budget, or a smaller first_rung"]
    return [f"best: datapipe train {facts['best_config']}"]


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
