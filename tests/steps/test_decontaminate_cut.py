"""Cutting words out: what is left are the other words, and nothing else of the text is lost but white space."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.steps.decontaminate_cut import QUOTED, cut, quoted
from datapipe.steps.decontaminate_index import words_of
from datapipe.steps.word_hashes import word_places

TEXTS = st.text(st.sampled_from("aB1 .,\n中äa\u0308e\u0301\0👩"), max_size=40)


@given(TEXTS, st.integers(0, 2**40 - 1))
def test_the_other_words_are_left(text, chosen):
    """By their hashes: the words that are not covered, in order, and no new ones where two parts meet."""
    words = words_of(text.encode())
    covered = np.array([chosen >> i & 1 for i in range(len(words))], bool)
    left = cut(text, covered)
    assert words_of(left.encode()).tolist() == words[~covered].tolist()
    if not covered.any():
        assert left == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    ("text", "covered", "left"),
    [
        ("a, b. c", [0, 1, 0], "a, . c"),
        ("a b c", [1, 0, 0], "b c"),
        ("a b c", [0, 0, 1], "a b "),
        ("a  b\n\nc d", [0, 1, 1, 0], "a  d"),
        ("中文字", [0, 1, 0], "中 字"),
        ("a b", [1, 1], ""),
        ("(a b) c", [1, 1, 0], "( ) c"),
    ],
)
def test_golden(text, covered, left):
    """White space after a cut goes with it, punctuation outside the words stays, parts that meet are kept apart."""
    assert cut(text, np.array(covered, bool)) == left


@given(TEXTS)
def test_places_are_those_of_the_hashes(text):
    """As many words have a place as have a hash, in order, each with something in it."""
    whole = unicodedata.normalize("NFC", text)
    first, last = word_places(whole)
    assert len(first) == len(words_of(text.encode()))
    assert (first < last).all()
    assert (last[:-1] <= first[1:]).all()


def test_quotes_are_short():
    """A run is shown as it stands, on one line, to so many characters."""
    assert quoted("x A,\n  B! c", 1, 2) == '"A, B"'
    long = quoted("word " * 100, 0, 100)
    assert len(long) == QUOTED + 3
    assert long.endswith('…"')
