"""WordTable: features of words, golden and against Python; keys of words written one after the other."""

from __future__ import annotations

import unicodedata

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.steps.characters import PUNCTUATION_AND_CONTROLS, SENTENCE_ENDS
from datapipe.steps.word_table import END, OTHER, PUNCTUATION, WordTable

WORDS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=12)


def test_golden():
    """Length, bytes, solid, alpha and sentence class of some words."""
    table = WordTable.of(["end", ".", "...", "…", "$", "é1", "12", "中文", "🙂", "", "।"])
    assert table.chars.tolist() == [3, 1, 3, 1, 1, 2, 2, 2, 1, 0, 1]
    assert table.utf8.tolist() == [3, 1, 3, 3, 1, 3, 2, 6, 4, 0, 3]
    assert table.solid.tolist() == [True, False, False, False, False, True, True, True, True, False, False]
    assert table.alpha.tolist() == [True, False, False, False, False, True, False, True, False, False, False]
    assert table.closing.tolist() == [OTHER, END, PUNCTUATION, PUNCTUATION, OTHER, *[OTHER] * 5, END]


@given(WORDS)
@settings(deadline=None)
def test_features_are_pythons(words):
    """Each feature as one would write it for one word."""
    table = WordTable.of(words)
    assert len(table) == len(words)
    assert table.chars.tolist() == list(map(len, words))
    assert table.utf8.tolist() == [len(word.encode()) for word in words]
    assert table.solid.tolist() == [any(c not in PUNCTUATION_AND_CONTROLS for c in word) for word in words]
    assert table.alpha.tolist() == [any(c.isalpha() for c in word) for word in words]
    punctuation = [bool(word) and all(unicodedata.category(c)[0] == "P" for c in word) for word in words]
    expected = [
        END if w in SENTENCE_ENDS else PUNCTUATION if p else OTHER for w, p in zip(words, punctuation, strict=True)
    ]
    assert table.closing.tolist() == expected


@given(WORDS, WORDS)
@settings(deadline=None)
def test_keys_of_joined_words(words, others):
    """The key of joined words follows from theirs, and tells unequal texts apart."""
    table = WordTable.of([*words, "".join(words)])
    key = np.uint64(0)
    with np.errstate(over="ignore"):
        for i in range(len(words)):
            key = key * table.scale[i] + table.key[i]
    assert key == table.key[-1]
    both = WordTable.of(["".join(words), "".join(others)]).key
    assert (both[0] == both[1]) == ("".join(words) == "".join(others))


@given(WORDS, WORDS)
@settings(deadline=None)
def test_plus(words, others):
    """Two tables one after the other are the table of all words."""
    whole, parts = WordTable.of(words + others), WordTable.of(words).plus(WordTable.of(others))
    for name in WordTable.__dataclass_fields__:
        assert getattr(whole, name).tolist() == getattr(parts, name).tolist()
        assert getattr(whole, name).dtype == getattr(parts, name).dtype
