"""The entry point: the list of commands, and what happens to an error that none of them handled.

Exit codes: 0 done; 1 the work found a fault; 2 wrong usage (arguments, options, recipes); 130 interrupted.
Invariant: an exception is one readable message on standard error; the traceback is printed only with `--debug`.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from datapipe.cli import console, dataset, demo, preprocess, profile

app = typer.Typer(
    name="datapipe",
    help="From raw files to a fed GPU, and where every millisecond went.",
    epilog="Start with: datapipe demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("preprocess")(preprocess.preprocess)
app.command("describe")(dataset.describe)
app.command("verify")(dataset.verify)
app.command("plan")(dataset.plan)
app.command(
    "profile",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
)(profile.profile)
app.command("report")(profile.report)
app.command("compare")(profile.compare)


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
    from datapipe.errors import ConfigError, DatapipeError

    try:
        app()
    except KeyboardInterrupt:
        console.say("interrupted: what is done is kept, run the same command to go on")
        code = 130
    except BrokenPipeError:
        # The reader of a pipe (head) went away: that is its right.
        sys.stderr.close()
        code = 0
    except ConfigError as error:
        console.fail(error)
        code = 2
    except DatapipeError as error:
        console.fail(error)
        code = 1
    except Exception as error:
        console.fail(error)
        code = 1
    else:
        code = 0
    sys.exit(code)
