"""Unigram vocabularies, by SentencePiece's trainer: words with counts → pieces with scores.

Kudo 2018, "Subword Regularization", arXiv:1804.10959, section 3.2: pieces are pruned from a large seed, by EM.
Invariant: the same words with the same counts give the same pieces and scores, whatever the order of the texts and the
number of cores: the trainer sorts its words, and sums by a number of threads that is set here and never measured.
"""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

THREADS: Final = 2
"""Of the trainer. It sums by threads, so that another number would change scores in their last bits."""
LONGEST_PIECE: Final = 16
"""Bytes of a token, SentencePiece's default."""

# Where GPT-2's pattern is sure to begin another word (see long_text): what repeats is split into words only once.
_BORDER: Final = re.compile(r"(?<=[^\s\x00-\x20\x7f-\xa0])(?=[ \n][^\s\x00-\x20\x7f-\xa0])")


def word_counts(texts: Iterable[str], pre_tokenizer: Any) -> dict[str, int]:
    """How often each word occurs, in byte-level characters; words as a pre-tokenizer of this package splits them."""
    spans: Counter[str] = Counter()
    for text in texts:
        spans.update(_BORDER.split(text))
    words: Counter[str] = Counter()
    for span, times in spans.items():
        for word, _ in pre_tokenizer.pre_tokenize_str(span):
            words[word] += times
    return dict(words)


def train_pieces(counts: Mapping[str, int], *, size: int, alphabet: Sequence[str]) -> list[tuple[str, float]]:
    """Pieces with their log probabilities, best first, then by code points.

    Args:
        counts: words and how often each occurs; they hold no character but those of `alphabet`.
        size: pieces at most; fewer where the words do not hold so many.
        alphabet: characters that are pieces whatever the words are.
    """
    if not counts:
        return [(character, -math.log(len(alphabet))) for character in sorted(alphabet)]
    import sentencepiece

    # The trainer would count only characters that occur.
    unseen = sorted(set(alphabet).difference(*counts))
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_lines(counts),
        input_format="tsv",
        model_writer=written,
        model_type="unigram",
        vocab_size=size - len(unseen) + 1,  # one more: its own unknown piece, which is left out below
        hard_vocab_limit=False,
        character_coverage=1.0,
        max_sentencepiece_length=LONGEST_PIECE,
        max_sentence_length=1 << 20,
        num_threads=THREADS,
        shuffle_input_sentence=False,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_by_unicode_script=False,
        split_by_number=False,
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        minloglevel=2,
    )
    trained = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    pieces = {trained.id_to_piece(i): trained.get_score(i) for i in range(1, trained.get_piece_size())}
    pieces |= dict.fromkeys(unseen, min(pieces.values()))
    return sorted(pieces.items(), key=lambda item: (-item[1], item[0]))


def _lines(counts: Mapping[str, int]) -> Iterator[str]:
    for word in sorted(counts):
        yield f"{word}\t{counts[word]}"
