"""Vocabularies of several sizes, measured: the size is a choice between fewer tokens and a smaller table.

What enters: texts to train on, texts held out, sizes. What leaves: a `SizeMeasured` for each size, smallest first.
Invariant: a vocabulary that was cut from a larger one is, byte for byte, the one that training at its size gives.

Fertility is tokens per word: Rust et al. 2021, "How Good is Your Tokenizer?", arXiv:2012.15613, section 4.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, final

from datapipe.errors import ConfigError
from datapipe.steps.vocabulary import VocabularyOptions
from datapipe.steps.vocabulary_models import as_file, specials, train

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BATCH_CHARS: Final = 1 << 20


@final
@dataclass(frozen=True, kw_only=True)
class SizeMeasured:
    """What a vocabulary of one size does with the held-out texts.

    Attributes:
        size: tokens asked for. tokens: tokens it has; fewer where the texts did not hold so many.
        bytes_per_token, tokens_per_byte: UTF-8 bytes of the held-out texts to their tokens, and the other way.
        tokens_per_word: tokens to words, of which white space is the border (fertility).
        dtype: what an id takes: uint16 or uint32.
        never_used: the share of tokens, special ones aside, that no held-out text has.
        tokens_saved: the share of tokens that the next smaller size takes and this one does not; 0 for the smallest.
    """

    size: int
    tokens: int
    bytes_per_token: float
    tokens_per_byte: float
    tokens_per_word: float
    dtype: Literal["uint16", "uint32"]
    never_used: float
    tokens_saved: float

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def sweep(
    texts: Sequence[str], held_out: Sequence[str], sizes: Sequence[int], options: VocabularyOptions | None = None
) -> list[SizeMeasured]:
    """Train at each size and measure on texts that were not trained on.

    BPE and WordPiece are trained once, at the largest size, and cut; Unigram is trained at each.

    Args:
        texts: to train on, in any order.
        held_out: to measure on.
        sizes: tokens; repeated ones are measured once.
        options: model, min_frequency and special_tokens are used.

    Raises:
        ConfigError: no size, a size out of range, or held-out texts without a character.
    """
    options = options or VocabularyOptions()
    ordered = checked_sizes(sizes, options)
    if not any(held_out):
        raise ConfigError("the held-out texts are empty", expected="some text to measure on", fix="give more documents")
    found: list[SizeMeasured] = []
    before = 0
    for size, data in zip(ordered, _vocabularies(texts, ordered, options), strict=True):
        measured, tokens = _measure(data, size, held_out, len(specials(options.model, options.special_tokens)))
        found.append(replace(measured, tokens_saved=1 - tokens / before if before else 0.0))
        before = tokens
    return found


def checked_sizes(sizes: Sequence[int], options: VocabularyOptions) -> list[int]:
    """The sizes, smallest first, each once.

    Raises:
        ConfigError: there is none, or one that the model cannot have.
    """
    if not sizes:
        raise ConfigError("no size", expected="one size or several", fix="for example 8192,16384,32768")
    return [replace(options, size=size).size for size in sorted(set(sizes))]


def truncated(data: dict[str, Any], size: int) -> dict[str, Any]:
    """A BPE or WordPiece vocabulary as training at a smaller size would have made it.

    Exact, because training adds one token after the other and asks for the size only before the next merge: the smaller
    vocabulary is the beginning of the larger, and its merges end with the one that made its last token.

    Args:
        data: a tokenizer.json from `vocabulary_models.train`, as a dict; it is not changed.
        size: tokens at most; one that `train` would accept.
    """
    model = data["model"]
    if model["type"] not in ("BPE", "WordPiece"):
        raise ConfigError(f"a {model['type']} vocabulary", expected="BPE or WordPiece", fix="train at each size")
    vocabulary = {token: number for token, number in model["vocab"].items() if number < size}
    if len(vocabulary) == len(model["vocab"]):
        return data
    cut = {**model, "vocab": vocabulary}
    if model["type"] == "BPE":
        # A pair may make a token that another pair made before: merges are not as many as tokens.
        made = ("".join(pair) for pair in model["merges"])
        last = next((rank for rank, token in enumerate(made) if model["vocab"][token] == size - 1), -1)
        cut["merges"] = model["merges"][: last + 1]
    return {**data, "model": cut}


def _vocabularies(texts: Sequence[str], sizes: list[int], options: VocabularyOptions) -> Iterator[dict[str, Any]]:
    def trained(size: int) -> dict[str, Any]:
        return train(
            options.model,
            texts,
            size=size,
            min_frequency=options.min_frequency,
            special_tokens=options.special_tokens,
        )

    if options.model == "unigram":
        yield from map(trained, sizes)
        return
    largest = trained(sizes[-1])
    for size in sizes:
        yield truncated(largest, size)


def _measure(data: dict[str, Any], size: int, texts: Sequence[str], n_special: int) -> tuple[SizeMeasured, int]:
    """(the measures, tokens of all texts)."""
    import numpy as np
    from tokenizers import Tokenizer

    from datapipe.steps.long_text import cuts_are_exact, pieces
    from datapipe.steps.tokenize_text import token_dtype

    tokenizer = Tokenizer.from_str(as_file(data).decode())
    tokenizer.encode_special_tokens = True
    cut = cuts_are_exact(tokenizer)
    count = tokenizer.get_vocab_size()
    used = np.zeros(count, np.int64)
    parts = (part for text in texts for part in (pieces(text) if cut else (text,)))
    for batch in _batches(parts):
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            used += np.bincount(np.array(encoding.ids, np.int64), minlength=count)
    tokens = int(used.sum())
    size_bytes = sum(len(text.encode()) for text in texts)
    words = sum(len(text.split()) for text in texts)
    measured = SizeMeasured(
        size=size,
        tokens=count,
        bytes_per_token=size_bytes / tokens,
        tokens_per_byte=tokens / size_bytes,
        tokens_per_word=tokens / max(1, words),
        dtype=np.dtype(token_dtype(tokenizer.get_vocab())).name,
        never_used=float((used[n_special:] == 0).mean()),
        tokens_saved=0.0,
    )
    return measured, tokens


def _batches(parts: Iterator[str]) -> Iterator[list[str]]:
    """About `_BATCH_CHARS` characters at a time: the library holds some 90 bytes for each."""
    held: list[str] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= _BATCH_CHARS:
            yield held
            held, size = [], 0
    if held:
        yield held
