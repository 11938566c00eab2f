"""The text of `preprocess --dry-run --deploy`: a cluster that fits the run, and the run itself as the user typed it.

What enters: a parsed command line, what the run will cost. What leaves: text to save and run. Invariant: the command
in it makes what the one that printed it would make; where it cannot, there is no text.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    import typer

    from datapipe.preprocess.run_cost import RunCost

DEPLOYED: Final = ("ssh", "slurm", "kubernetes")
_OF_THE_FORECAST: Final = ("dry_run", "sample", "documents", "deploy", "json", "workers")
"""Options that say what is to be foretold, or, of `--workers`, what the cluster is made of: the run has them not."""


def check_deploy(way: str, given: dict[str, Any]) -> None:
    """See that there is all that a text is made of; before anything is read.

    Args:
        way: that was asked for. given: the command's parameters by name.

    Raises:
        ConfigError: there is no such way, or something lacks, or cannot be meant.
    """
    if way not in DEPLOYED or not given["dry_run"] or not given["sample"]:
        raise ConfigError(f"--deploy {way}", expected=f"{' or '.join(DEPLOYED)}, with --dry-run and a --sample")
    if not given["workers"]:
        raise ConfigError(
            f"--deploy {way}, and no --workers",
            expected="how many are to be started elsewhere",
            fix="--workers N, at least 1",
        )
    for name, why in (
        ("scheduler", "the text starts a scheduler of its own"),
        ("fresh", "started again, the run would forget what it had done"),
        ("append", "the cost of an append is not foretold, and the text asks for what a run costs"),
    ):
        if given[name]:
            raise ConfigError(f"--deploy {way} with --{name}", expected="one of the two", fix=f"leave one out: {why}")


def deploy_text(way: str, context: typer.Context, cost: RunCost | None) -> str:
    """The text.

    Args:
        way: one of `DEPLOYED`. context: of the command. cost: of its run; None where there is nothing to run.

    Raises:
        ConfigError: there is no cost, or the command holds a secret, which is not to be in a file.
    """
    from datapipe.preprocess.deploying import deployment, needs_of

    if cost is None:
        raise ConfigError(f"--deploy {way}: there is nothing to run", expected="an input with documents")
    return deployment(way, needs_of(cost, context.params["worker_memory"] << 20), words_of(context))


def words_of(context: typer.Context) -> tuple[str, ...]:
    """The arguments and options that the user gave, but those that are for the forecast alone, quoted for bash.

    Raises:
        ConfigError: one of them is a secret.
    """
    from datapipe.storage import mask

    paths: list[str] = []
    options: list[str] = []
    for each in context.command.params:
        source, value = context.get_parameter_source(each.name or ""), context.params.get(each.name or "")
        if each.name in _OF_THE_FORECAST or source is None or source.name.startswith("DEFAULT"):
            continue
        if each.param_type_name == "argument":
            paths += value or ()
        elif getattr(each, "is_flag", False):
            options.append(each.opts[0])
        else:
            for one in value if isinstance(value, (list, tuple)) else [value]:
                options += [each.opts[0], str(one)]
    for word in (*paths, *options):
        if mask(word) != word:
            raise ConfigError(
                f"--deploy, and {mask(word)} in the command",
                expected="a command that may be saved in a file",
                fix="give credentials by the environment, or by a profile",
            )
    words = [*options, "--", *paths] if any(path.startswith("-") for path in paths) else [*paths, *options]
    return tuple(map(_quoted, words))


def _quoted(word: str) -> str:
    """One word for bash, on one line, and without a control character."""
    if word.isprintable():
        return shlex.quote(word)
    shown = (c if c.isprintable() and c not in "\\'" else _bytes(c) for c in word)
    return f"$'{''.join(shown)}'"


def _bytes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
