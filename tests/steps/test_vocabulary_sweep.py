"""The sweep: a cut vocabulary is the trained one, and the measures are what a count by hand gives."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from datapipe.errors import ConfigError
from datapipe.steps.vocabulary import VocabularyOptions
from datapipe.steps.vocabulary_models import as_file, train
from datapipe.steps.vocabulary_sweep import sweep, truncated

END = "<|endoftext|>"
# Runs of one letter, and ties: where the order of merges could show.
TEXTS = [
    " ".join("".join(random.Random(i * 31 + j).choices(letters, k=9)) for j in range(20))
    for i in range(60)
    for letters in ("abcde ", "aab", "a", "é中")
]


def made(model, size, min_frequency=2):
    return train(model, TEXTS, size=size, min_frequency=min_frequency, special_tokens=(END,))


@pytest.mark.parametrize("model", ["bpe", "wordpiece"])
class TestTruncated:
    @pytest.mark.parametrize("min_frequency", [1, 2])
    def test_is_training_at_the_smaller_size(self, model, min_frequency):
        """Byte for byte, at every size from the bytes alone on, also beyond what the text holds."""
        least = 257 if model == "bpe" else 514
        large = made(model, 1200, min_frequency)
        for size in [*range(least, least + 40), 700, 750, 1199, 1200]:
            assert as_file(truncated(large, size)) == as_file(made(model, size, min_frequency)), size

    def test_the_argument_stays(self, model):
        large = made(model, 700)
        before = as_file(large)
        truncated(large, 600)
        assert as_file(large) == before


def test_two_merges_of_one_token():
    """Two pairs may make one token: the merges end with the one that made the last token, and not by number."""
    merges = [["a", "a"], ["aa", "a"], ["a", "aa"], ["aa", "aa"], ["a", "aaa"]]
    vocabulary = {"a": 0, "aa": 1, "aaa": 2, "aaaa": 3}
    data = {"model": {"type": "BPE", "vocab": vocabulary, "merges": merges}}
    assert [len(truncated(data, size)["model"]["merges"]) for size in (1, 2, 3)] == [0, 1, 2]
    assert truncated(data, 4) == data


def test_unigram_is_not_cut():
    with pytest.raises(ConfigError, match="a Unigram vocabulary"):
        truncated(made("unigram", 300), 280)


@pytest.mark.parametrize("model", ["bpe", "unigram", "wordpiece"])
def test_measures_by_hand(model):
    """Bytes, tokens, words and unused tokens, against a count of one text after the other."""
    held = ["abc é 中中  x", "", "aaaa\nb"]
    sizes = [700, 600, 700]
    found = sweep(TEXTS, held, sizes, VocabularyOptions(model=model))
    assert [each.size for each in found] == [600, 700]
    before = None
    for each in found:
        tokenizer = Tokenizer.from_str(as_file(made(model, each.size)).decode())
        ids = [number for text in held for number in tokenizer.encode(text).ids]
        n_special = len(tokenizer.get_added_tokens_decoder())
        assert each.tokens == tokenizer.get_vocab_size()
        assert each.bytes_per_token == sum(len(text.encode()) for text in held) / len(ids)
        assert each.tokens_per_byte == 1 / each.bytes_per_token
        assert each.tokens_per_word == len(ids) / 6
        assert each.never_used == 1 - len(set(ids)) / (each.tokens - n_special)
        assert each.tokens_saved == (0 if before is None else 1 - len(ids) / before)
        assert each.dtype == "uint16"
        before = len(ids)


def test_a_special_token_in_held_out_text_is_text():
    """An end of text spelt in a document counts as the tokens of its characters."""
    (found,) = sweep(TEXTS, [END], [300])
    assert found.bytes_per_token < len(END)


def test_more_than_65536_tokens_take_uint32():
    """The type follows the tokens that there are, not those asked for."""
    letters = [chr(0x4E00 + i) + chr(0x4E00 + i) for i in range(20_000)]
    wide, narrow = (sweep([" ".join(letters)], ["a"], [size], VocabularyOptions(min_frequency=1))[0]
                    for size in (70_000, 60_000))  # fmt: skip
    assert narrow.dtype == "uint16"
    assert wide.dtype == ("uint32" if wide.tokens > 1 << 16 else "uint16")


@given(st.permutations(TEXTS[:12]))
@settings(deadline=None, max_examples=5)
def test_order_of_texts_does_not_matter(texts):
    assert sweep(texts, ["abcde"], [280, 300]) == sweep(TEXTS[:12], ["abcde"], [300, 280])


@pytest.mark.parametrize(
    ("sizes", "held", "message"),
    [([], ["a"], "no size"), ([256], ["a"], "vocabulary.size = 256"), ([300], ["", ""], "held-out texts are empty")],
)
def test_refused(sizes, held, message):
    with pytest.raises(ConfigError, match=message):
        sweep(TEXTS, held, sizes)
