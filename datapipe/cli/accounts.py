"""`datapipe explain` and `retune`: what became of a row, and what another threshold would do.

What enters: a dataset made by preprocess, and a row's id or thresholds. What leaves: the account on standard output.
Invariant: both read what the run has written; nothing of the dataset is changed, and no step is run again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption
from datapipe.cli.dataset import KeysOption, named

if TYPE_CHECKING:
    from collections.abc import Iterable

Dataset = Annotated[str, typer.Argument(help="A dataset made by preprocess: a folder or URL.", metavar="DATASET")]


def explain(
    dataset: Dataset,
    row_id: Annotated[str, typer.Argument(help="The row's id, as rejects/ and the shards have it.", metavar="ROW_ID")],
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """What happened to one row: each step's verdict and scores, the row it repeats, or the shard that holds it.

    Example: datapipe explain corpus docs/guide.html:0
    """
    from datapipe.preprocess import explain as explained

    with named(dataset):
        found = explained(dataset, row_id, keys=keys)
    if json:
        console.emit({"ok": True, **found.as_dict()})
        return
    for line in found.lines():
        console.show(line)


def retune(
    dataset: Dataset,
    set_: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="step.option=value, or values to compare: step.option=a,b,c; may be given again.",
            metavar="STEP.OPTION=VALUE",
        ),
    ],
    json: JsonOption = False,
) -> None:
    """What another threshold would keep and drop, from what the steps measured; nothing is read or written anew.

    Example: datapipe retune corpus --set gopher_quality.min_words=30,50,80
    """
    from datapipe.preprocess import retune as retuned

    changes = changes_of(set_)
    with named(dataset):
        found = retuned(dataset, changes)
    if json:
        console.emit({"ok": True, **found.as_dict()})
        return
    for line in found.lines():
        console.show(line)
    console.show(f"{found.seconds:.1f} s, from stored signals")


def changes_of(items: Iterable[str]) -> dict[str, Any]:
    """Values by "step.option": one, or those to compare, where several are given (by commas, or by repeating).

    Raises:
        ConfigError: an item is not step.option=value.
    """
    from datapipe.preprocess import parse_overrides

    found: dict[str, list[Any]] = {}
    for item in items:
        key, equals, text = item.partition("=")
        # A value in brackets is one value, a list; else commas stand between values to compare.
        texts = [text] if text.strip()[:1] in ("[", "{", "'", '"') else text.split(",")
        for one in texts:
            for name, value in parse_overrides([f"{key}{equals}{one}"]).items():
                found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}
