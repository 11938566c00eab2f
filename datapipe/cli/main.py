"""The entry point: the list of commands, and what happens to an error that none of them handled.

Exit codes: 0 done; 1 the work found a fault; 2 wrong usage (arguments, options, recipes, inputs that are not there);
130 interrupted.
Invariant: an exception is one readable message on standard error; the traceback is printed only with `--debug`.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from datapipe.cli import (
    accounts,
    console,
    cut,
    dataset,
    demo,
    erase,
    export,
    memory,
    preprocess,
    profile,
    recipe,
    sample,
    selftest,
    shrink,
    snapshots,
    trace,
    train,
    tune,
    vocabulary,
    what_if,
)

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    name="datapipe",
    help="From raw files to a fed GPU, and where every millisecond went.",
    epilog="Start with: datapipe demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with every error said once and turned into its exit code."""

    @functools.wraps(command)
    def call(*args: Any, **kwargs: Any) -> None:
        console.as_json = bool(kwargs.get("json"))
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            console.fail(console.Interrupted())
            raise typer.Exit(130) from None
        except (typer.Exit, BrokenPipeError):
            raise
        except Exception as error:
            from datapipe.errors import ConfigError, InputError, NoProfileError

            console.fail(error)
            raise typer.Exit(2 if isinstance(error, ConfigError | InputError | NoProfileError) else 1) from None

    return call


# What follows the script is the script's own.
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
app.command("demo")(_guarded(demo.demo))
app.command("preprocess")(_guarded(preprocess.preprocess))
app.command("explain")(_guarded(accounts.explain))
app.command("retune")(_guarded(accounts.retune))
app.command("recipe")(_guarded(recipe.recipe))
app.command("steps")(_guarded(recipe.steps))
app.command("describe")(_guarded(dataset.describe))
app.command("verify")(_guarded(dataset.verify))
app.command("plan")(_guarded(dataset.plan))
app.command("snapshots")(_guarded(snapshots.snapshots))
app.command("rollback")(_guarded(snapshots.rollback))
app.command("compact")(_guarded(snapshots.compact))
app.command("expire")(_guarded(snapshots.expire))
app.command("erase")(_guarded(erase.erase))
app.command("cut")(_guarded(cut.cut))
app.command("vocabulary")(_guarded(vocabulary.vocabulary))
app.command("memory")(_guarded(memory.memory))
app.command("export")(_guarded(export.export))
app.command("train")(_guarded(train.train))
app.command("profile", context_settings=_PASS_ON)(_guarded(profile.profile))
app.command("report")(_guarded(profile.report))
app.command("compare")(_guarded(profile.compare))
app.command("selftest")(_guarded(selftest.selftest))
app.command("what-if")(_guarded(what_if.what_if))
app.command("tune")(_guarded(tune.tune))
app.command("sample")(_guarded(sample.sample))
app.command("shrink")(_guarded(shrink.shrink))
traces = typer.Typer(
    help="Traces of profiled runs.\n\nExample: datapipe trace merge runs/a torch.json -o both.json.gz --json",
    no_args_is_help=True,
)
traces.command("merge")(_guarded(trace.merge))
app.add_typer(traces, name="trace")


def _version(asked: bool) -> None:
    if asked:
        import datapipe

        typer.echo(f"datapipe {datapipe.__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """From raw files to a fed GPU, and where every millisecond went."""
    del version
    console.debug = debug


def run() -> NoReturn:
    """Run the command in `sys.argv` and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal of another encoding shows an escape where it lacks a character, and the command goes on.
            stream.reconfigure(errors="backslashreplace")
    try:
        with console.warnings_said():
            code = app(standalone_mode=False) or 0
    except BrokenPipeError:
        # The reader of a pipe (head) went away: that is its right.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    except Exception as error:
        # Usage errors are of Click, which newer Typers carry inside: they are known by what they can do.
        if not hasattr(error, "exit_code") or not hasattr(error, "show"):
            raise
        if "--json" in sys.argv:
            console.emit({"ok": False, "error": {"type": "UsageError", "message": str(error)}})
        error.show(file=sys.stderr)
        code = error.exit_code
    sys.exit(code)
