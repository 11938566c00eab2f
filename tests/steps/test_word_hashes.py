"""Words by the stated rule, each with one hash wherever and beside whatever it stands."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.steps import word_hashes as module
from datapipe.steps.word_hashes import pieces, word_hashes

LETTERS = st.sampled_from("aAbB z_09.,-\n\t éÉß\u0301İ中文カな漢กาಕ್🙂\0\ufeffſ")
TEXTS = st.lists(st.one_of(st.text(LETTERS, max_size=30), st.text(max_size=20)), max_size=8)
SOLO = "".join(f"{chr(low)}-{chr(high)}" for low, high in module._SOLO)

GOLDEN = [
    18147105499722668977,
    7576362957977831803,
    14933391237130325688,
    14164090867321953495,
    4709942360975325061,
    18147105499722668977,
]


def words_of(text):
    """The rule, one character at a time."""
    text = unicodedata.normalize("NFC", text)
    words, open_ = [], False
    for letter in text:
        inside = ord(letter) < 0x323FF and (unicodedata.category(letter)[0] in "LMN" or letter == "_")
        alone = inside and re.fullmatch(f"[{SOLO}]", letter) is not None
        if inside and open_ and not alone:
            words[-1] += letter.lower()[0]
        elif inside:
            words.append(letter.lower()[0])
        open_ = inside and not alone
    return words


def encoded(texts):
    return [text.encode("utf-8", "replace") for text in texts]


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_words_are_those_of_the_rule(texts):
    """As many words as the rule finds, equal hashes for equal words and for no others."""
    documents = encoded(texts)
    hashes, counts = word_hashes(documents)
    expected = [words_of(document.decode()) for document in documents]
    assert counts.tolist() == [len(words) for words in expected]
    flat = [word for words in expected for word in words]
    meaning = dict(zip(flat, hashes.tolist(), strict=True))
    assert [meaning[word] for word in flat] == hashes.tolist()
    assert len(set(meaning.values())) == len(meaning)


def test_a_word_has_one_hash_in_ascii_and_beside_other_letters():
    """The two ways through the characters give the same hash."""
    alone, _ = word_hashes([b"Hello wide world"])
    beside, _ = word_hashes(["é hello WIDE world".encode()])
    assert beside[1:].tolist() == alone.tolist()


def test_golden_hashes():
    """Hashes are stored in datasets: they never change under the same rule."""
    hashes, counts = word_hashes(["Hello, wörld 42_a 中文".encode(), b"hello"])
    assert counts.tolist() == [5, 1]
    assert hashes.tolist() == GOLDEN
    assert module.RULE == "words 1"


def test_no_two_words_of_a_large_vocabulary_collide():
    """A million short words, as many hashes."""
    text = " ".join(f"{i:x}" for i in range(1_000_000)).encode()
    hashes, counts = word_hashes([text])
    assert counts.tolist() == [1_000_000]
    assert len(np.unique(hashes)) == 1_000_000


@pytest.mark.parametrize("text", ["word " * 100, "中" * 100, "x" * 300, "é" * 200, "a\n" * 90, "", "日本 x"])
def test_pieces_are_the_document(text):
    """Joined they are the whole, each is valid UTF-8 and no longer than asked."""
    document = text.encode()
    parts = list(pieces(document, 50))
    assert b"".join(parts) == document
    assert all(len(part) <= 50 for part in parts)
    assert "".join(part.decode() for part in parts) == text


def test_nothing_beyond_the_longest_is_looked_at(monkeypatch):
    """The cut falls between characters."""
    monkeypatch.setattr(module, "LONGEST", 5)
    assert list(pieces("éééé".encode())) == ["éé".encode()]
