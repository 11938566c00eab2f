"""Hashes of runs are those of the words in order; what is looked up block by block is found as if it were one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.steps import decontaminate_index
from datapipe.steps.decontaminate_index import _BASE, _MIX, build_index, run_hashes, words_of
from datapipe.steps.decontaminate_sets import Item
from datapipe.steps.word_hashes import word_hashes

MASK = (1 << 64) - 1


def item(text, row=1):
    return Item(text, "set.jsonl", row, "question")


@given(st.lists(st.integers(0, MASK), max_size=40), st.sets(st.integers(1, 20), min_size=1, max_size=4))
def test_run_hashes_are_the_polynomial(words, lengths):
    """Each is Horner's sum over its words, mixed, whatever other lengths are asked for."""
    found = run_hashes(np.array(words, np.uint64), lengths)
    for length in lengths:
        expected = []
        for at in range(len(words) - length + 1):
            total = 0
            for word in words[at : at + length]:
                total = (total * _BASE + word) & MASK
            expected.append(((total ^ (total >> 31)) * _MIX) & MASK)
        assert found[length].tolist() == expected


def test_golden():
    """The hashes of runs may never change: signals of stored datasets are compared with them."""
    words, _ = word_hashes([b"To be, or not to be: that is the question of the day"])
    assert len(words) == 13
    assert run_hashes(words, [13])[13].tolist() == [13069041205741063186]


@pytest.mark.parametrize("block", [1, 2, 7, 1000])
@given(text=st.text(st.sampled_from("ab "), max_size=60), n=st.integers(2, 5))
@settings(deadline=None, max_examples=30)
def test_blocks_change_nothing(block, text, n):
    """The same hits, in the same order, however many words are looked up at a time."""
    index = build_index([item("a b a a b b a"), item("b b", 2), item("ab ba", 3)], n, 2)
    words = words_of(text.encode())
    counts = np.array([len(words) // 2, 0, len(words) - len(words) // 2])
    with pytest.MonkeyPatch.context() as patch:
        whole = index.hits(words, counts)
        patch.setattr(decontaminate_index, "_BLOCK", block)
        cut = index.hits(words, counts)
    for name in ("starts", "lengths", "items"):
        assert getattr(whole, name).tolist() == getattr(cut, name).tolist()


def test_a_shared_run_belongs_to_the_first_item():
    """Of two items with the same run the one that comes first is named."""
    index = build_index([item("x a b c"), item("a b c y", 2)], 3, 1)
    hits = index.hits(words_of(b"a b c y"), np.array([4]))
    assert [index.labels[each] for each in hits.items] == ["set.jsonl row 1 (question)", "set.jsonl row 2 (question)"]


def test_no_documents_no_words():
    """Nothing in, nothing found."""
    index = build_index([item("a b c")], 2, 1)
    assert len(index.hits(np.zeros(0, np.uint64), np.zeros(0, np.int64)).starts) == 0
    assert len(index.hits(np.zeros(0, np.uint64), np.zeros(3, np.int64)).starts) == 0
    assert len(build_index([], 2, 1).hits(words_of(b"a b"), np.array([2])).starts) == 0
