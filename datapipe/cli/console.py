"""What a command says and where: results on standard output, everything else on standard error.

With `--json` standard output carries exactly one JSON object, also when the command fails.
Invariant: text that comes from data or file names is printed as text, never as terminal markup or control codes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, final

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

debug = False
"""Set by `datapipe --debug`."""
as_json = False
"""Whether the command in progress was given `--json`."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.option=value; may be given again.", metavar="SECTION.OPTION=VALUE"),
]


@functools.cache
def out() -> Console:
    """Standard output, for results."""
    from rich.console import Console

    return Console(highlight=False, emoji=False, markup=False, soft_wrap=True)


@functools.cache
def err() -> Console:
    """Standard error, for progress and messages."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, emoji=False, markup=False, soft_wrap=True)


def printable(text: object) -> str:
    """The text with control characters (terminal escapes among them) shown as escapes; line ends and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in str(text))


def say(text: object, style: str | None = None) -> None:
    """A line on standard error."""
    err().print(printable(text), style=style)


def show(text: object, style: str | None = None) -> None:
    """A line of the result, on standard output."""
    out().print(printable(text), style=style)


def emit(value: Mapping[str, Any]) -> None:
    """The one JSON object of a `--json` command."""
    # ASCII: a file name that is no valid text survives the pipe, as an escape.
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()


@final
class Interrupted(Exception):  # noqa: N818  (it is no error)
    """Ctrl-C, as it is told."""

    def __str__(self) -> str:
        return "interrupted: what is done is kept, run the same command to go on"


def fail(error: BaseException) -> None:
    """Say an error: what was got, what was expected, what to do; with `--debug`, where.

    An error of ours has its credentials masked where it is raised; those that it comes from, and others, here.
    """
    import traceback

    from datapipe.errors import DatapipeError
    from datapipe.storage import mask

    if as_json:
        notes = [mask(note) for note in getattr(error, "__notes__", [])]
        detail: dict[str, Any] = {"type": type(error).__name__, "message": mask(str(error)), "notes": notes}
        if isinstance(error, DatapipeError):
            detail |= {"got": error.got, "expected": error.expected, "fix": error.fix}
        emit({"ok": False, "error": detail})
    if isinstance(error, DatapipeError):
        say(f"error: {error}", "bold red" if err().is_terminal else None)
    elif isinstance(error, Interrupted):
        say(error)
    else:
        say(f"error: {type(error).__name__}: {mask(str(error))}", "bold red" if err().is_terminal else None)
        say("  to do: run `datapipe --debug …` for the traceback, and report it: this error was not foreseen")
    for note in getattr(error, "__notes__", []):
        say(f"  in: {mask(note)}")
    if debug:
        say(mask("".join(traceback.format_exception(error))))


@contextlib.contextmanager
def warnings_said() -> Iterator[None]:
    """While it lasts, warnings of any library are said as all else is: they may quote data and URLs."""
    import warnings

    from datapipe.storage import mask

    def said(message: Warning | str, *_: object, **__: object) -> None:
        say(f"warning: {mask(str(message))}")

    with warnings.catch_warnings():
        warnings.showwarning = said
        yield


@contextlib.contextmanager
def output_aside(aside: bool) -> Iterator[None]:
    """While it lasts, what is written to standard output (by C code and child processes too) goes to standard error."""
    if not aside:
        yield
        return
    try:
        kept = os.dup(1)
    except OSError:  # it was closed: nobody reads it
        yield
        return
    sys.stdout.flush()
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def size(n: float) -> str:
    """Bytes for people: 12.3 MB (powers of ten)."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(n) < 1000 or unit == "TB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


def count(n: int, name: str) -> str:
    """`1 shard`, `2,000 shards`, `2 pieces of text`."""
    from datapipe.preprocess.amounts import counted

    return counted(n, name)


def table(
    rows: Sequence[tuple[str, ...]], *, header: tuple[str, ...] | None = None, right: tuple[int, ...] = ()
) -> str:
    """Columns of text, aligned; the columns numbered in `right` to the right."""
    lines = [header, *rows] if header else rows
    widths = [max(len(line[c]) for line in lines) for c in range(len(lines[0]))] if lines else []
    cut = []
    for line in lines:
        cells = [cell.rjust(widths[c]) if c in right else cell.ljust(widths[c]) for c, cell in enumerate(line)]
        cut.append(("  " + "  ".join(cells)).rstrip())
    return "\n".join(cut)
