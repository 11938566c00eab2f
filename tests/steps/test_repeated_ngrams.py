"""repeated_ngrams: golden counts, and datatrove's three loops written out in plain Python."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.steps import repeated_ngrams as module
from datapipe.steps.repeated_ngrams import repeated_ngrams
from datapipe.steps.segmentation import Segmentation

TOP, DUPLICATE = (2, 3, 4), (5, 6, 7, 8, 9, 10)


def plain_top(words, n):
    grams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
    if not grams:
        return 0
    gram, count = Counter(grams).most_common(1)[0]
    return len(gram) * count


def plain_duplicate(words, n):
    seen, chars, i = set(), 0, 0
    while i + n <= len(words):
        gram = "".join(words[i : i + n])
        if gram in seen:
            chars += len(gram)
            i += n
        else:
            seen.add(gram)
            i += 1
    return chars


def counts(documents, top=TOP, duplicate=DUPLICATE):
    text = pa.chunked_array([pa.array([" ".join(words) for words in documents], pa.large_string())])
    lists = Segmentation.from_lists(text, pa.array(documents, pa.large_list(pa.large_string())))
    found = repeated_ngrams(lists.codes, lists.offsets, lists.table, top=top, duplicate=duplicate)
    return {n: values.tolist() for n, values in found.items()}


def test_golden():
    """The most frequent pair, of two equally frequent the first; duplicates skip what they cover."""
    assert counts([["a", "bb", "a", "bb", "a"]], top=(2,), duplicate=(3,)) == {2: [8], 3: [4]}
    # "a a" twice over three words counts three characters each time.
    assert counts([["a", "a", "a"]], top=(2,), duplicate=()) == {2: [6]}
    # "x y" and "y x" occur twice each; "x y" came first.
    assert counts([["xxx", "y", "xxx", "y", "xxx"]], top=(2,), duplicate=()) == {2: [10]}
    assert counts([["one"], [], ["a", "b"]]) == {2: [0, 0, 3], **{n: [0, 0, 0] for n in (3, 4, *DUPLICATE)}}


def test_duplicates_are_compared_joined():
    """Words 1, 23 and words 12, 3 are one text without spaces, two with them: so it is in datatrove."""
    assert counts([["1", "23", "12", "3"]], top=(2,), duplicate=(3,)) == {2: [4], 3: [0]}
    assert counts([["1", "23", "9", "12", "3", "9"]], top=(), duplicate=(3,)) == {3: [4]}


def test_what_a_duplicate_skips_was_not_seen():
    """An n-gram whose first place lies within a skipped duplicate is new at its second."""
    words = [*"abcdabcdbcdxbcdx"]
    assert counts([words], top=(), duplicate=(3,)) == {3: [plain_duplicate(words, 3)]}


def test_documents_do_not_meet():
    """The same words in two documents repeat nothing."""
    words = ["the", "cat", "sat", "on", "the", "mat", "and", "the", "dog", "lay", "by", "the", "door"]
    alone = counts([words])
    assert counts([words, words, words]) == {n: values * 3 for n, values in alone.items()}
    assert counts([["a"] * 4, ["a"] * 4])[5] == [0, 0]


WORDS = st.lists(st.sampled_from(["a", "b", "ab", "ba", "1", "12", "é", "the", ".", ".."]), max_size=60)


@given(st.lists(WORDS, max_size=6))
@settings(deadline=None, max_examples=300)
def test_is_the_plain_reading(documents):
    """Of any documents of few different words, all counts are those of the loops."""
    found = counts(documents)
    for n in TOP:
        assert found[n] == [plain_top(words, n) for words in documents]
    for n in DUPLICATE:
        assert found[n] == [plain_duplicate(words, n) for words in documents]


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_batches_do_not_matter(batch, monkeypatch):
    """Documents looked at together or apart give the same counts."""
    draw = np.random.default_rng(3)
    documents = [[f"w{k}" for k in draw.integers(0, 6, draw.integers(0, 80))] for _ in range(40)]
    expected = counts(documents)
    monkeypatch.setattr(module, "_BATCH_WORDS", batch)
    assert counts(documents) == expected
