"""`datapipe sample`: text from a trained model.

What enters: a run, a checkpoint or an exported file; a prompt. What leaves: the text on standard output, its speed on
standard error. Invariant: standard output holds the text alone.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datapipe.cli import console
from datapipe.cli.console import JsonOption

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def sample(
    run: Annotated[Path, typer.Argument(help="A run's folder, one of its step-… folders, or an exported file.")],
    prompt: Annotated[str, typer.Option(help="What the text begins with.")],
    tokenizer: Annotated[
        str, typer.Option(help="A tokenizer.json, or the dataset the model was trained on.", metavar="FILE|DATASET")
    ],
    new_tokens: Annotated[int, typer.Option(help="At most; fewer at the row's or the text's end.", min=1)] = 128,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest.", min=0.0)] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Only the k likeliest.", min=1)] = None,
    top_p: Annotated[float, typer.Option(help="Only the fewest that reach this probability.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    json: JsonOption = False,
) -> None:
    """Draw text from a trained GPT, with a cache of keys and values: one token's work for each token.

    Example: datapipe sample runs/a --tokenizer corpus/ --prompt "Once upon" --top-p 0.9 --temperature 0.8
    """
    from datapipe.train import Draw
    from datapipe.train import sample as drawn
    from datapipe.train.precision import choose_device
    from datapipe.train.trained import trained_gpt

    words = _tokenizer(tokenizer)
    end: Any = words.token_to_id("<|endoftext|>")
    draw = Draw(
        new_tokens=new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, stop=end
    )  # fmt: skip
    model, step = trained_gpt(run)
    model = model.to(choose_device(device))
    begun = words.encode(prompt, add_special_tokens=False).ids
    # A document begins after the end of another: without a prompt that is all there is to go on.
    given = begun or ([] if end is None else [end])
    started = time.perf_counter()
    found = list(drawn(model, given, draw))
    spent = time.perf_counter() - started
    text = words.decode([*begun, *found])
    full = len(given) + len(found) >= model.config.seq_len
    how = "length" if len(found) == new_tokens else "full row" if full else "end of text"
    if json:
        console.emit({
            "ok": True, "text": text, "prompt_tokens": given, "tokens": found, "ended": how, "step": step,
            "tokens_per_s": len(found) / spent if spent else 0.0,
        })  # fmt: skip
        return
    console.show(text)
    console.say(
        f"{console.count(len(found), 'token')}, {len(found) / spent:,.0f} a second; ended by {how}; step {step}"
    )


def _tokenizer(place: str) -> Tokenizer:
    """The tokenizer in a file, or of a dataset.

    Raises:
        ConfigError: there is none there.
    """
    from tokenizers import Tokenizer

    from datapipe.cli.dataset import named
    from datapipe.dataset import open_dataset
    from datapipe.errors import ConfigError

    if Path(place).is_file():
        data = Path(place).read_bytes()
    else:
        with named(place):
            dataset = open_dataset(place)
        held = None if dataset.manifest is None else dataset.manifest.vocabulary
        if held is None:
            raise ConfigError(f"{place} has no tokenizer", expected="one that `datapipe preprocess` made", fix="a file")
        data = dataset.store.read(held.path)
    try:
        return Tokenizer.from_str(data.decode())
    except Exception as error:  # of Rust, and of no class of its own
        raise ConfigError(f"{place}: {error}", expected="a tokenizer.json of Hugging Face tokenizers") from error
