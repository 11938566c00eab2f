"""vocabulary: a byte-level BPE, Unigram or WordPiece vocabulary trained on a seeded sample of the corpus.

The row-by-row half: `row_id` enters, `sample_key: uint64` is added, a keyed hash of it. The sample is the rows of
which the key lies below a threshold (`sampled`), so it is the same however the corpus is split and ordered.
The other half, `train_vocabulary`: texts enter, the bytes of a `tokenizer.json` leave.

Invariant: the same texts, in any order, and the same options give the same bytes, in any process and with any number
of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from datapipe.errors import ConfigError
from datapipe.steps.columns import row_ids, set_column
from datapipe.steps.options import in_range
from datapipe.steps.step import StepSpec
from datapipe.steps.vocabulary_models import Model, as_file, least_size, train

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from datapipe.steps.step import Keys, Step

SAMPLE_KEY: Final = "sample_key"
END_OF_TEXT: Final = "<|endoftext|>"


@dataclass(frozen=True, kw_only=True)
class VocabularyOptions:
    """Options of vocabulary.

    Attributes:
        model: "bpe", "unigram" or "wordpiece"; all three on bytes, so that no text is unknown.
        size: tokens at most, special ones and the 256 bytes (WordPiece: 512) included; fewer where the text does not
            hold so many.
        sample_bytes: UTF-8 bytes of text to train on, about; 0 for all of it.
        min_frequency: how often a pair must occur to become a token; Unigram has no such rule.
        special_tokens: these get the first ids, in this order. WordPiece adds "[UNK]", which it never gives out.
    """

    model: Model = "bpe"
    size: int = 32_768
    sample_bytes: int = 64 << 20
    min_frequency: int = 2
    special_tokens: tuple[str, ...] = (END_OF_TEXT,)

    def __post_init__(self) -> None:
        in_range("vocabulary.size", self.size, least_size(self.model, self.special_tokens), 1 << 24)
        in_range("vocabulary.sample_bytes", self.sample_bytes, 0)
        in_range("vocabulary.min_frequency", self.min_frequency, 1)
        if len(set(self.special_tokens)) < len(self.special_tokens) or not all(self.special_tokens):
            raise ConfigError(
                f"vocabulary.special_tokens = {list(self.special_tokens)!r}",
                expected="different tokens, none of them empty",
                fix="remove the repeated or empty ones",
            )


def vocabulary(table: pa.Table, keys: Keys, *, options: VocabularyOptions) -> pa.Table:
    """Add each row's sample key.

    Args:
        table: `row_id: string`.
        keys: the seed is used; the epoch is not.
        options: not used by this half.

    Returns:
        The table with `sample_key: uint64`.
    """
    del options
    import pyarrow as pa

    return set_column(table, SAMPLE_KEY, pa.array(sample_keys(row_ids(table).to_pylist(), keys), pa.uint64()))


def sample_keys(ids: Sequence[str], keys: Keys) -> npt.NDArray[np.uint64]:
    """A key for each row id, uniform over uint64 and a function of the seed and the id alone."""
    import numpy as np
    from xxhash import xxh3_64_intdigest

    seed = keys.seed & 0xFFFF_FFFF_FFFF_FFFF
    return np.fromiter((xxh3_64_intdigest(each.encode(), seed) for each in ids), np.uint64, len(ids))


def sampled(sample_key: npt.NDArray[np.uint64], rate: float) -> npt.NDArray[np.bool_]:
    """Which rows are in a sample of `rate` (0 none, 1 all): bool[n]. A sample holds every smaller one.

    Raises:
        ConfigError: the rate is not in [0, 1].
    """
    import numpy as np

    in_range("the sample rate", rate, 0, 1)
    if rate >= 1:
        return np.ones(len(sample_key), bool)
    # 53 bits: what a float64 holds exactly, so that every platform draws the same line.
    return (sample_key >> np.uint64(11)) < np.uint64(int(rate * (1 << 53)))


def sample_rate(total_bytes: int, options: VocabularyOptions) -> float:
    """The rate at which a corpus of `total_bytes` of text gives about `sample_bytes`."""
    if options.sample_bytes == 0 or total_bytes <= options.sample_bytes:
        return 1.0
    return options.sample_bytes / total_bytes


def train_vocabulary(texts: Iterable[str], options: VocabularyOptions | None = None) -> bytes:
    """Train a byte-level tokenizer (GPT-2's pre-tokenisation; no prefix space, no unknown token).

    Args:
        texts: documents, in any order.
        options: model, size, min_frequency and special_tokens are used.

    Returns:
        The UTF-8 bytes of a `tokenizer.json` (Hugging Face tokenizers).

    Raises:
        ConfigError: a special token could come from text.
    """
    options = options or VocabularyOptions()
    return as_file(
        train(
            options.model,
            texts,
            size=options.size,
            min_frequency=options.min_frequency,
            special_tokens=options.special_tokens,
        )
    )


def build(options: VocabularyOptions) -> Step:
    """The step with its options bound."""
    return partial(vocabulary, options=options)


SPEC: Final = StepSpec(
    name="vocabulary",
    version=1,
    kind="global",
    options=VocabularyOptions,
    build=build,
    summary="a byte-level vocabulary (BPE, Unigram, WordPiece) trained on a seeded sample",
    needs=("row_id",),
    gives=(SAMPLE_KEY,),
)
