"""`datapipe profile`, `report` and `compare`: where a run's time went, shown again, and against another run's.

What enters: a script and its arguments, or folders of profiles. What leaves: the verdict and the ledger, report.html.
Invariant: the script's own exit code is that of `profile`; `compare` exits 1 on a regression or where it cannot tell.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption

if TYPE_CHECKING:
    from datapipe.profiling.live import Sink
    from datapipe.profiling.summary import Summary

_PATIENCE = 20.0
"""Seconds that rank 0 waits for the other ranks of its machine to write: torchrun kills a job that lingers after 30."""
Folder = Annotated[Path, typer.Argument(help="A profile: the folder that holds profile.json.")]


def profile(
    context: typer.Context,
    script: Annotated[str, typer.Argument(help="The training script (with -m: the module).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the profile goes.")] = Path("runs/profile"),
    module: Annotated[bool, typer.Option("-m", help="Run SCRIPT as a module, like python -m.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No live line while it runs.")] = False,
    prometheus: Annotated[
        int | None, typer.Option(help="Serve live metrics on this port (ranks: on the ports that follow).", min=0)
    ] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="Write live scalars into this folder.")] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Run it again with the best fix that needs no edit; predicted, measured.")
    ] = False,
    loader_option: Annotated[
        list[str] | None, typer.Option(help="Set this of the script's loaders, as num_workers=4.", metavar="NAME=VALUE")
    ] = None,
    differential: Annotated[
        bool,
        typer.Option(
            "--differential", help="Run it again, by turns: as it is, on batches in memory, its loader alone."
        ),
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(help="End the script after so many steps (--differential: 100, or 3 s of them).", min=4),
    ] = None,
    scratch: Annotated[
        bool, typer.Option("--scratch", help="--differential's runs in a folder of links: new files are left behind.")
    ] = False,
    stand_in: Annotated[
        str, typer.Option(help="Batches: as-is, synthetic, cached, or loader (no steps).", metavar="KIND")
    ] = "as-is",
    brief: Annotated[bool, typer.Option("--brief", help="No trace, no spans to replay, no advice.")] = False,
    report_only: Annotated[bool, typer.Option("--report-only", help="Print no figures at the end.")] = False,
    json: JsonOption = False,
) -> None:
    """Profile any PyTorch script, unmodified; what follows the script is the script's own.

    The script's own output and exit code are kept (with --json its output goes to standard error). Under torchrun each
    rank writes into a folder of its own, and rank 0 shows them merged: torchrun … -m datapipe profile train.py

    However the script ends (an exception, sys.exit, os._exit, Ctrl-C, SIGTERM), the profile of what ran is written;
    only SIGKILL, as of a machine short of memory, leaves none, and `datapipe report` then says so.

    --differential runs the script nine times, each time for some steps, and what it writes it writes each time;
    --scratch keeps new files of all but the first out of this folder.

    Example: datapipe profile -o runs/a train.py --epochs 1; a module: datapipe profile -m package.train --epochs 1
    """
    from datapipe.cli.another_run import Command, apply_best
    from datapipe.cli.differential import ROUNDS, STEPS, run_differential
    from datapipe.errors import ConfigError
    from datapipe.integrations.loader_options import parse_options
    from datapipe.integrations.script import profile_script
    from datapipe.profiling import render, write_report
    from datapipe.profiling.merging import await_ranks
    from datapipe.profiling.profile_file import save_profile
    from datapipe.profiling.ranks import this_rank

    options = parse_options(loader_option or [])
    if apply and brief:
        raise ConfigError("--apply with --brief", expected="one of them", fix="leave out --brief: it leaves out advice")
    if apply and differential:
        raise ConfigError("--apply with --differential", expected="one of them", fix="run it twice, one with each")
    if apply and this_rank() is not None:
        raise ConfigError("--apply under torchrun", expected="one process", fix="use --loader-option in the job itself")
    if differential and this_rank() is not None:
        raise ConfigError(
            "--differential under torchrun", expected="one process", fix="use --stand-in in jobs of its own"
        )
    if stand_in == "loader" and steps is None:
        raise ConfigError("--stand-in loader without an end", expected="a number of steps", fix="add --steps 100")
    if differential:
        console.say(f"  {script} runs {1 + 4 * ROUNDS} times, none to its end: what it writes it writes each time")
    applied = None
    unwritten: list[Summary] = []

    def shown(summary: Summary) -> None:
        unwritten.append(summary)
        console.say("the profile could not be written; what it says:")
        console.out().print(render(summary))

    with console.output_aside(json):
        live = _live(quiet=quiet, prometheus=prometheus, tensorboard=tensorboard)
        code = profile_script(
            [script, *context.args], output, module=module, live=live, options=options, stand_in=stand_in,
            steps=steps or (STEPS if differential else None), brief=brief, unwritten=shown,
        )  # fmt: skip
        command = Command(script=script, arguments=context.args, module=module, folder=output)
        if apply and not code:
            applied = apply_best(command)
        if differential and not code:
            run_differential(command, steps=steps, scratch=scratch, quiet=quiet)
    if unwritten:
        raise typer.Exit(code)
    rank = this_rank()
    if rank is not None and rank.rank == 0:
        merged = await_ranks(output, rank.local_world_size, patience=1.0 if code else _PATIENCE)
        save_profile(merged, output)
        write_report(merged, output)
    if (rank is None or rank.rank == 0) and not report_only:
        _show(output, json=json, code=code)
        if apply and not json:
            console.show(f"\n{applied or 'no fix of this run can be made without an edit of the script'}")
    if code:
        raise typer.Exit(code)


def _live(*, quiet: bool, prometheus: int | None, tensorboard: Path | None) -> list[Sink]:
    """Who is told how the run goes, each rank for itself; the live line is the first rank's."""
    from datapipe.cli.live_line import live_line
    from datapipe.profiling.ranks import this_rank

    rank = this_rank()
    line = None if quiet else live_line(sys.stderr)
    sinks: list[Sink] = [] if line is None else [line]
    if prometheus is not None:
        from datapipe.integrations.prometheus import Prometheus

        port = prometheus + (rank.local_rank if rank is not None and prometheus else 0)
        sinks.append(Prometheus(port, rank=None if rank is None else rank.rank))
    if tensorboard is not None:
        from datapipe.integrations.tensorboard import TensorBoard

        sinks.append(TensorBoard(tensorboard / (rank.folder if rank is not None else "")))
    return sinks


def report(folder: Folder, json: JsonOption = False) -> None:
    """Show a profile again: the verdict and the step ledger; report.html is written anew.

    The folder of a job that ran under torchrun shows its ranks merged.

    Example: datapipe report datapipe-demo/profile
    """
    from datapipe.profiling import load_run, write_report
    from datapipe.profiling.profile_file import save_profile
    from datapipe.profiling.unfinished import left

    folder = folder.parent if folder.is_file() else folder
    loaded = load_run(folder)
    if later := left(folder):
        console.say(f"  {later} What follows is of a run before it.")
    if loaded.ranks is not None:
        save_profile(loaded, folder)
    write_report(loaded, folder)
    _show(folder, json=json)


def _show(folder: Path, *, json: bool, code: int = 0) -> None:
    from datapipe.profiling import load_profile, render

    loaded = load_profile(folder)
    if json:
        console.emit({"ok": code == 0, "exit_code": code, **asdict(loaded)})
        return
    console.out().print(render(loaded))
    console.show(f"\n{folder / 'report.html'}")


def compare(
    before: Folder,
    after: Folder,
    threshold: Annotated[
        float, typer.Option(help="A slow-down beyond this share of a step is a regression.", min=0)
    ] = 0.05,
    json: JsonOption = False,
) -> None:
    """Compare two profiles: which parts of the step changed, by how much; exit 1 on a regression.

    Example: datapipe compare runs/a runs/b --threshold 0.1
    """
    from datapipe.profiling import compare as compare_profiles
    from datapipe.profiling import load_run

    found = compare_profiles(load_run(before), load_run(after))
    regressed = found.regressed(threshold)
    # Too few steps for a test: a slow-down within the threshold passes, one beyond it is no evidence of health.
    unsure = found.step.p is None and (found.step.relative or 0) > threshold
    if json:
        console.emit({"ok": not (regressed or unsure), "regressed": regressed, "unsure": unsure, **asdict(found)})
    else:
        console.show(str(found))
        if unsure:
            console.show(f"cannot tell: slower by more than {threshold:.0%}, in too few steps to be sure; run longer")
        else:
            console.show(f"regression: slower by more than {threshold:.0%}" if regressed else "no regression")
    if regressed or unsure:
        raise typer.Exit(1)
