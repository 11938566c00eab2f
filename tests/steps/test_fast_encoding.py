"""fast_encoding: the ids that `tokenizers` gives, or none at all."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from datapipe.steps import fast_encoding
from datapipe.steps.fast_encoding import fast_encoder
from datapipe.steps.tokenize_text import load_tokenizer
from datapipe.steps.vocabulary import VocabularyOptions, train_vocabulary

POINTS = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]
DOUBTED = [point for first, last in fast_encoding._UNICODE_17 for point in range(first, last + 1)]


def byte_pairs(merges, extra=()):
    """A byte-level BPE with the merges."""
    vocabulary = {character: number for number, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for token in [*(left + right for left, right in merges), *extra]:
        vocabulary.setdefault(token, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.fixture(scope="module")
def telling():
    """A tokenizer whose ids tell where words end.

    Every byte merges with a letter, a digit, a sign or a space after it, if and only if both are in one word.
    """
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    return byte_pairs([(byte, after) for after in ("a", "1", "!", "Ġ") for byte in bytes_])


@pytest.fixture(scope="module")
def trained(tokenizer_path):
    return load_tokenizer(tokenizer_path)


def disagreements(tokenizer, texts):
    """The texts for which there are ids, and other ones."""
    fast = fast_encoder(tokenizer)
    assert fast is not None
    expected = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    found = [None if ids is None else ids.tolist() for ids in fast.encode(texts)]
    return [text for text, ids, each in zip(texts, found, expected, strict=True) if ids not in (None, each.ids)]


def lines(points):
    """Each code point before a letter, a digit, a sign, white space."""
    return ["".join(f"{chr(p)}a\n{chr(p)}1\n{chr(p)}!\n{chr(p)} \n" for p in points[i : i + 500]) for i in
            range(0, len(points), 500)]  # fmt: skip


def test_awkward_texts(trained, awkward):
    """The same ids for every awkward string, the spelled special token among them."""
    assert disagreements(trained, list(awkward)) == []
    assert all(ids is not None for ids in fast_encoder(trained).encode(["plain", "é 日本", "<|endoftext|>"]))


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text(telling, trained, text):
    """The same ids for any text, or none."""
    assert disagreements(telling, [text]) == []
    assert disagreements(trained, [text]) == []


def test_code_points_by_class(telling):
    """Every seventh code point that both libraries are trusted with begins and ends words in the same places."""
    trusted = [point for point in POINTS[::7] if not fast_encoding._doubtful_points()[point]]
    assert len(trusted) > 20_000
    assert disagreements(telling, lines(trusted)) == []


@pytest.mark.slow
def test_every_code_point(telling):
    """Of all 1,112,064 code points none is trusted that the libraries know differently."""
    trusted = [point for point in POINTS if not fast_encoding._doubtful_points()[point]]
    assert disagreements(telling, lines(trusted)) == []


def test_doubtful_texts_are_left(trained):
    """A code point that Unicode 17 added, or that has no name, leaves its text to the other library; others stay."""
    found = fast_encoder(trained).encode(["a", f"b {chr(DOUBTED[0])}", f"{chr(DOUBTED[-1])}", "\u0378", "é"])
    assert [ids is None for ids in found] == [False, True, True, True, False]


def test_the_encoder_is_made_anew(trained, prose, monkeypatch):
    """What it remembers is bounded; the ids do not change by it."""
    fast = fast_encoder(trained)
    first = fast._encoder
    monkeypatch.setattr(fast_encoding, "REFRESH_BYTES", len(prose))
    found = fast.encode([prose, prose, prose, prose])
    assert fast._encoder is not first
    assert all(np.array_equal(ids, found[0]) for ids in found)


class TestLeftToTheOther:
    """Tokenizers that are no plain byte-level BPE have no fast encoder."""

    def test_models(self):
        """Unigram, WordPiece, and a vocabulary of whole words."""
        texts = ["the cat sat with the dog", "the dog and the cat"]
        for model in ("unigram", "wordpiece"):
            data = train_vocabulary(texts, VocabularyOptions(model=model, size=600))
            assert fast_encoder(Tokenizer.from_str(data.decode())) is None
        assert fast_encoder(Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))) is None

    def test_normalizer_and_pattern(self):
        """What changes or splits the text in another way."""
        other = byte_pairs([("a", "b")])
        assert fast_encoder(other) is not None
        other.normalizer = normalizers.NFC()
        assert fast_encoder(other) is None
        for splitter in (
            pre_tokenizers.ByteLevel(add_prefix_space=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            pre_tokenizers.Whitespace(),
        ):
            other = byte_pairs([("a", "b")])
            other.pre_tokenizer = splitter
            assert fast_encoder(other) is None

    def test_added_tokens_that_are_looked_for(self):
        """A token that is found in text before all else."""
        other = byte_pairs([("a", "b")])
        other.add_tokens(["cd"])
        assert fast_encoder(other) is None

    def test_tokens_that_no_merge_makes(self):
        """One library may look up a whole word, the other merges."""
        assert fast_encoder(byte_pairs([("a", "b")], extra=["cde"])) is None

    def test_options_of_the_model(self):
        """Dropout, and words that are looked up whole."""
        for option, value in (("dropout", 0.1), ("ignore_merges", True), ("end_of_word_suffix", "</w>")):
            data = json.loads(byte_pairs([("a", "b")]).to_str())
            data["model"][option] = value
            assert not fast_encoding._is_plain(data)

    def test_other_versions(self, trained, monkeypatch):
        """A version that was not tried is not used."""
        assert fast_encoder(trained) is not None
        monkeypatch.setattr(fast_encoding, "_VERSIONS", ((0, 0), (0, 1)))
        assert fast_encoder(trained) is None
