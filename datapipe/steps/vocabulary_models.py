"""Train a byte-level vocabulary: BPE, WordPiece or Unigram.

What enters: texts, a size, special tokens. What leaves: a `tokenizer.json` of Hugging Face's library, as a dict.
Invariant: the same texts, in any order, give the same, in any process and with any number of threads; the special
tokens have the first ids, and no text can ever become one of them; every byte has a token, so no text is unknown.

What each trainer needed for that:
BPE: nothing. Pairs of equal count are merged by their ids, and the ids come from sorted characters.
WordPiece: the library trains BPE with a prefix for the pieces inside words, and gives these their ids in the order of
a hash map. They are therefore handed to it as special tokens, sorted, and are none in the result.
Unigram: the library's trainer sums probabilities in the order of a hash map and in chunks by the number of threads; so
scores differ in their last bits, and pieces that are about equal with them. See `vocabulary_unigram`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

from datapipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Model = Literal["bpe", "unigram", "wordpiece"]

BYTES: Final = 256
"""Tokens that every byte-level vocabulary has, beside the special ones; WordPiece twice: begins a word, goes on."""
UNKNOWN: Final = "[UNK]"
"""WordPiece must name an unknown token; here it is never given out."""
INSIDE: Final = "\u203f"
"""Before a WordPiece token that goes on within a word: "‿ing". Not "##": bytes have no such character, while "##!" is
a word as well, and one token could not be both."""
LONGEST_WORD: Final = 64
"""Bytes of a word that WordPiece and Unigram look at together; a longer one is cut. WordPiece takes cubic time in the
length of a word, and gives up on one of more than 100."""


def least_size(model: Model, special_tokens: Sequence[str]) -> int:
    """The fewest tokens that a vocabulary can have: special ones and bytes."""
    return len(specials(model, special_tokens)) + BYTES * (2 if model == "wordpiece" else 1)


def specials(model: Model, special_tokens: Sequence[str]) -> list[str]:
    """The special tokens in the order of their ids: those asked for, and what the model must have."""
    return list(dict.fromkeys([*special_tokens, UNKNOWN] if model == "wordpiece" else special_tokens))


def train(
    model: Model, texts: Iterable[str], *, size: int, min_frequency: int, special_tokens: Sequence[str]
) -> dict[str, Any]:
    """A tokenizer.json as a dict.

    Args:
        model: which.
        texts: documents, in any order.
        size: tokens at most, special ones included.
        min_frequency: how often a pair must occur to become a token; Unigram has no such rule and ignores it.
        special_tokens: these get the first ids, in this order.

    Raises:
        ConfigError: a special token could come from text.
    """
    tokenizer = untrained(model)
    names = specials(model, special_tokens)
    _check_specials(tokenizer, names)
    if model == "unigram":
        from datapipe.steps.vocabulary_unigram import train_pieces, word_counts

        counts = word_counts(texts, tokenizer.pre_tokenizer)
        pieces = train_pieces(counts, size=size - len(names), alphabet=alphabet())
        # A special token's score is never looked at: no word holds its text (`_check_specials`).
        vocabulary = [(name, 0.0) for name in names] + pieces
        data: dict[str, Any] = json.loads(tokenizer.to_str())
        data["model"] = {"type": "Unigram", "unk_id": None, "vocab": vocabulary, "byte_fallback": False}
        data["added_tokens"] = [_added(number, name) for number, name in enumerate(names)]
        return data
    tokenizer.train_from_iterator(texts, trainer=_trainer(model, size, min_frequency, names))
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] in set(names)]
    return data


def as_file(data: dict[str, Any]) -> bytes:
    """The bytes of a tokenizer.json."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def alphabet() -> list[str]:
    """The 256 characters that stand for bytes, sorted."""
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


def untrained(model: Model) -> Any:
    """A `tokenizers.Tokenizer` with GPT-2's pre-tokenisation, no prefix space, and nothing learnt."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    bytes_ = decoders.ByteLevel()
    if model == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer, tokenizer.decoder = words, bytes_
        return tokenizer
    tokenizer = Tokenizer(
        models.Unigram()
        if model == "unigram"
        else models.WordPiece(unk_token=UNKNOWN, continuing_subword_prefix=INSIDE)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.Split(Regex(f".{{1,{LONGEST_WORD}}}"), "isolated")]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace(INSIDE, ""), bytes_]) if model == "wordpiece" else bytes_
    return tokenizer


def _trainer(model: Model, size: int, min_frequency: int, names: list[str]) -> Any:
    from tokenizers import trainers

    if model == "bpe":
        return trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=min_frequency,
            special_tokens=names,
            initial_alphabet=alphabet(),
            show_progress=False,
        )
    return trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        special_tokens=[*names, *(INSIDE + character for character in alphabet())],
        initial_alphabet=alphabet(),
        continuing_subword_prefix=INSIDE,
        show_progress=False,
    )


def _check_specials(tokenizer: Any, names: list[str]) -> None:
    """Refuse a special token that is a word, or could be part of one: text would become it."""
    for name in names:
        words = tokenizer.pre_tokenizer.pre_tokenize_str(name)
        if len(words) == 1 and words[0][0] == name:
            raise ConfigError(
                f"vocabulary.special_tokens: {name!r} is a word that a text may hold",
                expected="letters and signs mixed, so that no text can become the token",
                fix=f'for example "<|{name.strip("<|>") or "special"}|>"',
            )
        if name.startswith(INSIDE):
            raise ConfigError(
                f"vocabulary.special_tokens: {name!r}",
                expected=f"no {INSIDE} at its start, which WordPiece uses itself",
            )


def _added(number: int, content: str) -> dict[str, Any]:
    return {
        "id": number,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
