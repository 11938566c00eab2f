"""`datapipe vocabulary`: sizes of a vocabulary, measured on the user's own text, so that the size is a choice.

What enters: inputs, sizes. What leaves: a table with a row a size. Invariant: measured on documents that the
vocabularies were not trained on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption
from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from datapipe.steps.vocabulary_sweep import SizeMeasured


def vocabulary(
    inputs: Annotated[
        list[str], typer.Argument(help="Files, folders, patterns or URLs, as for preprocess.", metavar="INPUT...")
    ],
    sizes: Annotated[str, typer.Option("--sizes", help="Tokens, with commas between.")] = "8192,16384,32768,65536",
    model: Annotated[str, typer.Option("--model", help="bpe, unigram or wordpiece.")] = "bpe",
    sample_mb: Annotated[
        int, typer.Option("--sample-mb", help="MiB of text to sample, about; 0 for all of it.", min=0)
    ] = 64,
    held_out: Annotated[
        float, typer.Option("--held-out", help="Share of the sampled documents to measure on, not to train on.")
    ] = 0.1,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample.")] = 0,
    text_column: Annotated[str, typer.Option("--text-column", help="The field that holds the document.")] = "text",
    json: JsonOption = False,
) -> None:
    """What vocabularies of several sizes make of your text: tokens per byte and word, tokens never used.

    Example: datapipe vocabulary docs --sizes 8192,16384,32768
    """
    from datapipe.preprocess.vocabulary_sample import draw_sample
    from datapipe.steps import find_step, options_from
    from datapipe.steps.vocabulary_sweep import checked_sizes, sweep

    options = options_from(find_step("vocabulary"), {"model": model, "size": 1 << 24})
    wanted = checked_sizes(_numbers(sizes), options)
    with console.output_aside(aside=True):
        sample = draw_sample(
            inputs, sample_bytes=sample_mb << 20, held_out=held_out, seed=seed, text_column=text_column
        )  # fmt: skip
        found = sweep(sample.texts, sample.held_out, wanted, options)
    trained_on, measured_on = (sum(len(text.encode()) for text in part) for part in (sample.texts, sample.held_out))
    if json:
        console.emit(
            {
                "ok": True,
                "model": model,
                "seed": seed,
                "documents_read": sample.documents,
                "rows_unreadable": sample.unreadable,
                "trained_on": {"documents": len(sample.texts), "bytes": trained_on},
                "held_out": {"documents": len(sample.held_out), "bytes": measured_on},
                "sizes": [each.as_dict() for each in found],
            }
        )
        return
    unreadable = f"; {console.count(sample.unreadable, 'row')} could not be read" if sample.unreadable else ""
    console.show(
        f"{model}, trained on {console.count(len(sample.texts), 'document')} ({console.size(trained_on)}), measured on"
        f" {len(sample.held_out):,} others ({console.size(measured_on)}){unreadable}"
    )
    console.show(lines(found))
    console.show("set it in a recipe, or by: datapipe preprocess … --set vocabulary.size=SIZE")


def lines(found: list[SizeMeasured]) -> str:
    """The table for a person."""
    rows = [
        (
            f"{each.size:,}" if each.size == each.tokens else f"{each.size:,} (has {each.tokens:,})",
            f"{each.bytes_per_token:.3f}",
            f"{each.tokens_per_byte:.4f}",
            f"{each.tokens_per_word:.3f}",
            f"{each.tokens_saved:.1%}" if number else "",
            f"{each.never_used:.1%}",
            each.dtype,
        )
        for number, each in enumerate(found)
    ]
    header = ("size", "bytes/token", "tokens/byte", "tokens/word", "fewer tokens", "never used", "id")
    return console.table(rows, header=header, right=(0, 1, 2, 3, 4, 5))


def _numbers(text: str) -> list[int]:
    parts = [part.strip().replace("_", "") for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ConfigError(f"--sizes {text}", expected="numbers with commas between", fix="for example 8192,16384,32768")
    return [int(part) for part in parts]
