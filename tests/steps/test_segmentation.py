"""Segmentation: the words of documents are those of their chunks; one table is segmented once."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import segmentation as module
from datapipe.steps.english_words import split_chunk
from datapipe.steps.segmentation import Segmentation, segment, segmented
from tests.steps.one_text import column

SPACES = " \t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000"
TEXTS = st.lists(
    st.one_of(
        st.text("ab.,()'1-:\n " + SPACES + "é中🙂\u200b\ufeff\u180e", max_size=30),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.lists(st.sampled_from(["the", "don't", "U.S.", "end.", "(a)", "\n", "\t", "1,5", "中文", ":)"])).map(
            " ".join
        ),
    ),
    max_size=8,
)


def plain(text):
    return [word for chunk in text.split() for word in split_chunk(chunk)]


@given(TEXTS)
@settings(deadline=None, max_examples=300)
def test_words_are_those_of_the_chunks(texts):
    """Chunks are Python's `split`, words are `split_chunk`'s."""
    found = segment(column(texts))
    assert found.lists().to_pylist() == [plain(text) for text in texts]
    assert found.counts.tolist() == [len(plain(text)) for text in texts]
    chunks = found.chunks
    spans = [chunks.data[a:b].tobytes().decode() for a, b in zip(chunks.starts, chunks.ends, strict=True)]
    assert spans == [chunk for text in texts for chunk in text.split()]
    assert found.chunk_words.tolist() == [len(split_chunk(chunk)) for chunk in spans]


def test_every_white_space():
    """Each character for which `isspace` holds divides, and none else does."""
    every = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    found = segment(column(["a" + c + "b" for c in every if c.isspace()])).chunks
    assert np.diff(found.offsets).tolist() == [2] * sum(c.isspace() for c in every)
    near = [c for c in every if not c.isspace() and ord(c) < 0x3100]
    assert np.diff(segment(column(["a" + c + "b" for c in near])).chunks.offsets).tolist() == [1] * len(near)


@given(TEXTS)
@settings(deadline=None)
def test_given_lists_count_alike(texts):
    """Words given as lists have the features that the native ones have."""
    native = segment(column(texts))
    given_ = Segmentation.from_lists(column(texts), native.lists())
    for name in ("solid", "alpha", "chars", "utf8", "closing"):
        assert native.sums(getattr(native.table, name)).tolist() == given_.sums(getattr(given_.table, name)).tolist()
    stop = ("the", "a", "U.S.", "the", "nowhere")
    expected = [len(set(plain(text)) & set(stop)) for text in texts]
    assert native.distinct_of(stop).tolist() == given_.distinct_of(stop).tolist() == expected


def test_more_stop_words_than_bits():
    """A hundred different words are told apart, and none wanted is none found."""
    words = [f"w{i}" for i in range(100)]
    found = segment(column([" ".join(words[:77]) + " w1 w2", "", "w99"]))
    assert found.distinct_of(words).tolist() == [77, 0, 1]
    assert found.distinct_of(()).tolist() == [0, 0, 0]


def test_given_lists_may_be_slices():
    """A list array that begins within its values."""
    words = pa.array([["x"], ["a", "b"], []], pa.large_list(pa.large_string())).slice(1)
    assert Segmentation.from_lists(column(["a b", ""]), words).counts.tolist() == [2, 0]


class TestSharing:
    def test_the_next_step_has_them(self):
        """The same column, in another table or cut to its columns, is not segmented again; a filtered one is."""
        table = pa.table({"text": column(["one two", "three"]), "n": [1, 2]})
        first = segmented(table)
        assert segmented(table.select(["text"]).append_column("m", pa.array([3, 4]))) is first
        other = segmented(table.filter(pa.array([True, False])))
        assert other is not first
        assert other.counts.tolist() == [2]
        assert segmented(table) is not first, "one column is remembered, not two"

    def test_an_address_used_again(self):
        """A column at the place of one that is gone is another column."""
        for i in range(200):
            table = pa.table({"text": column([f"word {i} " * (i % 3 + 1)])})
            assert segmented(table).counts.tolist() == [2 * (i % 3 + 1)]
            del table

    def test_threads_do_not_meet(self):
        """Each thread has a vocabulary of its own."""
        results = {}

        def work(k):
            results[k] = segmented(pa.table({"text": column([f"thread {k} says {k} times"])})).lists().to_pylist()

        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert results == {k: [["thread", str(k), "says", str(k), "times"]] for k in range(4)}

    def test_needs_text(self):
        """A table without text says so."""
        with pytest.raises(ConfigError, match="text"):
            segmented(pa.table({"raw": ["a"]}))

    def test_bounded_vocabulary(self, monkeypatch):
        """A vocabulary that has grown too large is given up, and what was segmented with it still holds."""
        monkeypatch.setattr(module, "_MAX_WORDS", 50)
        before = segment(column([" ".join(f"early{i}" for i in range(60))]))
        after = segment(column(["early3 late"]))
        assert len(module._STATE.vocabulary.table) == 2
        assert before.lists().to_pylist()[0][59] == "early59"
        assert before.sums(before.table.chars).tolist() == [sum(len(f"early{i}") for i in range(60))]
        assert after.lists().to_pylist() == [["early3", "late"]]
