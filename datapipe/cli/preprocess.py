"""`datapipe preprocess`: raw inputs → a sharded dataset, every row accounted for.

What enters: inputs, an output, a recipe and overrides of it. What leaves: the run's ledger, throughput and place, or
its plan. Invariant: of a run, exit 0 is a published dataset whose row ledger adds up; where rows that do harm had to be
left out, it exits 1 unless told to go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption
from datapipe.cli.deploy_text import check_deploy, deploy_text
from datapipe.cli.live import RunView

if TYPE_CHECKING:
    from datapipe.preprocess import RunSummary


def preprocess(
    context: typer.Context,
    paths: Annotated[list[str], typer.Argument(help="Inputs (files, folders, globs, URLs), then the output.")],
    recipe: Annotated[str, typer.Option(help="A shipped recipe's name (text), or a YAML file.")] = "text",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="step.option=value; may be given again.", metavar="STEP.OPTION=VALUE"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes; one per core by default; 0: in this process.", min=0)
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="A Dask scheduler to use instead: tls://host:8786, or its scheduler file (.json)."),
    ] = None,
    tls_ca: Annotated[str | None, typer.Option(help="The scheduler's authority: a PEM file.")] = None,
    tls_cert: Annotated[str | None, typer.Option(help="Our certificate for the scheduler: a PEM file.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="Its key: a PEM file.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let the scheduler be elsewhere, and plain: who reaches it runs code.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an earlier run has done.")] = False,
    append: Annotated[
        bool,
        typer.Option("--append", help="Add the files that are new as a snapshot, deduplicated against all before."),
    ] = False,
    on_error: Annotated[str, typer.Option(help="What bad data does: quarantine (counted) or stop.")] = "quarantine",
    on_poison: Annotated[
        str, typer.Option(help="Rows that kill or hang a worker, or make a step raise: fail (exit code 1) or continue.")
    ] = "fail",
    worker_memory: Annotated[int, typer.Option(help="MiB that a worker may hold; 0: no limit.", min=0)] = 1024,
    batch_seconds: Annotated[float, typer.Option(help="How long 8 MiB of rows may take; 0: no limit.", min=0)] = 600,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and what it will cost on --workers; write nothing.")
    ] = False,
    sample: Annotated[
        float,
        typer.Option(help="Of --dry-run: MiB of the input that are run to know the cost; 0: the plan alone.", min=0),
    ] = 4,
    documents: Annotated[
        int | None, typer.Option(help="Of --dry-run: the cost as if there were so many documents like these.", min=1)
    ] = None,
    deploy: Annotated[
        str | None,
        typer.Option(help="Of --dry-run: how to start --workers elsewhere: ssh, slurm or kubernetes; text to save."),
    ] = None,
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
    if deploy is not None:
        check_deploy(deploy, context.params)
    if on_poison not in {"fail", "continue"}:
        raise ConfigError(f"--on-poison {on_poison}", expected="fail or continue")
    from datapipe.preprocess import Scheduler, cores, parse_overrides
    from datapipe.preprocess import preprocess as run_preprocess

    inputs, output = paths[:-1], paths[-1]
    overrides = parse_overrides(set_ or [])
    cluster = None
    if scheduler is not None:
        cluster = Scheduler(scheduler, tls_ca=tls_ca, tls_cert=tls_cert, tls_key=tls_key, insecure=insecure)
        cluster.checked()  # before anything is read or claimed
    elif tls_ca or tls_cert or tls_key or insecure:
        raise ConfigError("options of a scheduler, and none", expected="--scheduler", fix="name it, or leave them out")
    if dry_run:
        from datapipe.preprocess import forecast_run, near_forecasts
        from datapipe.preprocess.survey import survey_run

        found = survey_run(inputs, output, recipe, overrides, append=append)
        plan, warnings = found.plan, [] if found.replaced is None else [found.replaced]
        count = 1 if workers == 0 else workers or cores()
        needs = near_forecasts(plan, count, documents=documents)
        cost = None
        # A delivery is compared with an index that a sample has not.
        if sample and plan.splits and not append:
            with console.output_aside(aside=True):  # what a step of the user's prints
                cost = forecast_run(plan, output, count, documents=documents, sample_bytes=round(sample * (1 << 20)))
        text = None if deploy is None else deploy_text(deploy, context, cost)
        if json:
            forecasts = [each.as_dict() for each in needs]
            priced = None if cost is None else cost.as_dict()
            console.emit(
                {
                    "ok": True,
                    "plan": plan.as_dict(),
                    "warnings": warnings,
                    "forecasts": forecasts,
                    "cost": priced,
                    "deploy": text,
                }
            )
        elif text is not None:
            console.show(text.rstrip("\n"))
        else:
            told = [plan, *needs, *([] if cost is None else [cost])]
            console.show("\n".join([*map(str, told), *(f"warning: {each}" for each in warnings)]))
        return
    policy: Literal["quarantine", "stop"] = "stop" if on_error == "stop" else "quarantine"
    # What a step prints (a user's own, here or in a worker) is no result.
    with console.output_aside(aside=True), RunView(quiet=json) as view:
        summary = run_preprocess(
            inputs,
            output,
            recipe=recipe,
            workers=workers,
            scheduler=cluster,
            overrides=overrides,
            fresh=fresh,
            append=append,
            on_error=policy,
            worker_memory=worker_memory << 20,
            batch_seconds=batch_seconds,
            on_progress=view.update,
        )
    # The dataset is whole, and published, without those rows; whether that is good enough is the user's word.
    ok = not summary.poison or on_poison == "continue"
    if json:
        console.emit({"ok": ok, **summary.as_dict()})
    else:
        for line in summary_lines(summary):
            console.show(line)
    if not ok:
        raise typer.Exit(1)


REASONS: Final = 10
"""Reasons that the end's ledger names; the report and the JSON object have all."""


def summary_lines(summary: RunSummary) -> list[str]:
    """What a run did, for a person: the ledger, the throughput, where the dataset is."""
    lines = ["documents", *summary.ledger_lines(most=REASONS)]
    tasks = f"{console.count(summary.tasks_run, 'task')} run, {summary.tasks_reused:,} reused"
    if summary.tasks_reused and summary.tasks_run:
        lines.append(f"{summary.seconds:.1f} s; {tasks}")
    elif summary.tasks_run:
        stored = console.size(1e6 * summary.mb_per_s)
        speed = f"{summary.docs_per_s:,.0f} documents/s, {stored}/s over {summary.seconds:.1f} s"
        lines.append(f"{speed}; {tasks}")
    else:
        lines.append(f"nothing left to do: {tasks}")
    tokens = "" if summary.tokens is None else f", {summary.tokens:,} tokens"
    shards = console.count(summary.shards, "shard")
    lines.append(f"{summary.output}: {console.count(summary.rows, 'row')}{tokens} in {shards}, {summary.fingerprint}")
    lines.append(f"{summary.output}/report.html: what became of the documents, with examples")
    if held := summary.counters.get("pack.row_tokens"):
        padding, long = (summary.counters[f"pack.{name}"] for name in ("padding_tokens", "long_documents"))
        lines.append(
            f"packed: {padding:,} tokens of padding ({padding / held:.2%}); {console.count(long, 'document')} longer"
            f" than a row; {console.count(summary.counters['pack.cuts'], 'time')} a document goes on in another row"
        )
    if summary.poison:
        lines.append(f"poison: {console.count(len(summary.poison), 'row')}, left out and quarantined")
        lines += [f"  {row.row_id}: {row.reason} in {row.step} ({row.detail})" for row in summary.poison]
    lines += [f"warning: {warning}" for warning in summary.warnings]
    return lines
