"""`datapipe preprocess`: raw inputs → a sharded dataset, every row accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption

if TYPE_CHECKING:
    from datapipe.preprocess import Progress, RunSummary


def preprocess(
    paths: Annotated[list[str], typer.Argument(help="Inputs (files, folders, globs, URLs), then the output.")],
    recipe: Annotated[str, typer.Option(help="A shipped recipe's name (text), or a YAML file.")] = "text",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="step.option=value; may be given again.", metavar="STEP.OPTION=VALUE"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes; one per core by default; 0: in this process.", min=0)
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="A Dask scheduler to use instead: tcp://host:8786.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an earlier run has done.")] = False,
    append: Annotated[
        bool,
        typer.Option("--append", help="Add the files that are new as a snapshot, deduplicated against all before."),
    ] = False,
    on_error: Annotated[str, typer.Option(help="What bad data does: quarantine (counted) or stop.")] = "quarantine",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, and do nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Clean, filter, deduplicate, tokenize and shard raw files; kill it at any time, run it again: the same bytes.

    Example: datapipe preprocess docs/ 'more/*.jsonl.gz' corpus --recipe text --set pack.seq_len=1024
    """
    from datapipe.errors import ConfigError
    from datapipe.storage import mask

    if len(paths) < 2:
        one = mask(paths[0])
        raise ConfigError(
            f"got one path, {one!r}", expected="INPUT... OUTPUT", fix=f"datapipe preprocess {one} my-dataset"
        )
    if on_error not in {"quarantine", "stop"}:
        raise ConfigError(f"--on-error {on_error}", expected="quarantine or stop")
    from datapipe.preprocess import parse_overrides, plan_run
    from datapipe.preprocess import preprocess as run_preprocess

    inputs, output = paths[:-1], paths[-1]
    overrides = parse_overrides(set_ or [])
    if dry_run:
        plan = plan_run(inputs, output, recipe=recipe, overrides=overrides, append=append)
        if json:
            console.emit({"ok": True, "plan": plan.as_dict()})
        else:
            console.show(str(plan))
        return
    policy: Literal["quarantine", "stop"] = "stop" if on_error == "stop" else "quarantine"
    with console.Steps(quiet=json) as steps:
        summary = run_preprocess(
            inputs,
            output,
            recipe=recipe,
            workers=workers,
            scheduler=scheduler,
            overrides=overrides,
            fresh=fresh,
            append=append,
            on_error=policy,
            on_progress=lambda progress: show_progress(steps, progress),
        )
    if json:
        console.emit({"ok": True, **summary.as_dict()})
        return
    for line in summary_lines(summary):
        console.show(line)


def show_progress(steps: console.Steps, progress: Progress) -> None:
    """One progress event on the bar."""
    detail = f"{progress.documents:,} documents"
    if progress.reused:
        detail += f", {progress.reused} done before"
    elif progress.elapsed > 0:
        detail += f", {progress.documents / progress.elapsed:,.0f}/s"
    steps.update(progress.stage, progress.done, progress.total, detail)


def summary_lines(summary: RunSummary) -> list[str]:
    """What a run did, for a person: the ledger, the throughput, where the dataset is."""
    lines = ["documents", *summary.ledger_lines()]
    tasks = f"{summary.tasks_run} tasks run, {summary.tasks_reused} reused"
    if summary.tasks_reused and summary.tasks_run:
        lines.append(f"{summary.seconds:.1f} s; {tasks}")
    elif summary.tasks_run:
        speed = f"{summary.docs_per_s:,.0f} documents/s, {summary.mb_per_s:.1f} MB/s over {summary.seconds:.1f} s"
        lines.append(f"{speed}; {tasks}")
    else:
        lines.append(f"nothing left to do: {tasks}")
    tokens = "" if summary.tokens is None else f", {summary.tokens:,} tokens"
    shards = console.count(summary.shards, "shard")
    lines.append(f"{summary.output}: {console.count(summary.rows, 'row')}{tokens} in {shards}, {summary.fingerprint}")
    lines += [f"warning: {warning}" for warning in summary.warnings]
    return lines
