"""The set of shingles of a document: its distinct runs of words, however the table is cut and however long it is."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.steps import shingles as module
from datapipe.steps.shingles import shingle_sets

TEXTS = st.lists(st.text(st.sampled_from("ab cé. 中\n"), max_size=40), max_size=10)

GOLDEN = [133685946, 2127515808, 4031818378]


def sets_of(texts, words=5):
    """The sets, as Python sets."""
    hashes, offsets = shingle_sets(pa.chunked_array([pa.array(texts, pa.large_string())]), words)
    parts = [hashes[a:b].tolist() for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]
    assert all(part == sorted(set(part)) for part in parts), "ascending and distinct"
    return [set(part) for part in parts]


def grams(text, n):
    words = text.lower().split()
    if not words:
        return set()
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))}


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", "dd"]), max_size=12).map(" ".join), max_size=8),
       st.integers(1, 6))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_sets_are_the_runs_of_words(texts, words):
    """As many shingles as distinct runs; two documents share as many hashes as runs."""
    found, expected = sets_of(texts, words), [grams(text, words) for text in texts]
    assert [len(each) for each in found] == [len(each) for each in expected]
    for i in range(len(texts)):
        for j in range(i):
            assert len(found[i] & found[j]) == len(expected[i] & expected[j])


@given(TEXTS, st.integers(0, 10))
@settings(max_examples=100, deadline=None)
def test_a_set_depends_on_no_neighbour(texts, cut):
    """One table, two tables, one text at a time: the same sets."""
    whole = sets_of(texts)
    assert sets_of(texts[:cut]) + sets_of(texts[cut:]) == whole
    assert [each for text in texts for each in sets_of([text])] == whole


def test_short_documents():
    """Fewer words than a run: alike only if they are the same words in the same order; no words: no shingle."""
    one, same, swapped, fewer, none, marks = sets_of(["two Words", "TWO, words!", "words two", "two", "", "…!?"])
    assert one == same
    assert len(one) == 1
    assert not one & swapped
    assert not one & fewer
    assert none == marks == set()


def test_scripts_without_spaces_are_runs_of_characters():
    """Each character is a word: a changed one changes five runs."""
    text = "中文没有空格的一句话而且它很长"
    (one, other) = sets_of([text, text[:7] + "新" + text[8:]])
    assert len(one) == len(text) - 4
    assert len(one - other) == 5


def test_a_long_document_is_cut_without_a_trace(monkeypatch):
    """In pieces or as one: the same set, runs across the cuts included."""
    draw = random.Random(1)
    text = " ".join(draw.choice(["a", "bb", "ccc", "é", "中文"]) + str(draw.randrange(50)) for _ in range(5000))
    (whole,) = sets_of([text])
    monkeypatch.setattr(module, "PIECE", 512)
    monkeypatch.setattr("datapipe.steps.shingles.pieces", lambda document: pieces_of(document, 512))
    assert sets_of([text, "a b c d e f"])[0] == whole


def pieces_of(document, size):
    from datapipe.steps.word_hashes import pieces

    return pieces(document, size)


def test_golden_set():
    """Sets are stored in datasets: they never change under the same rule."""
    hashes, _ = shingle_sets(pa.chunked_array([pa.array(["The cat sat on the mat, again."], pa.large_string())]))
    assert hashes.tolist() == GOLDEN
    assert module.RULE == "shingles 1"


@pytest.mark.parametrize("texts", [[], [""], ["", "a b c d e", ""]])
def test_empty(texts):
    """Nothing in, nothing out."""
    assert len(sets_of(texts)) == len(texts)
