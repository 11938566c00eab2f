"""Sentences: golden, and spaCy's loop over tokens written out."""

from __future__ import annotations

import re
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.steps.characters import SENTENCE_ENDS
from datapipe.steps.english_words import split_chunk
from datapipe.steps.segmentation import Segmentation, segment
from datapipe.steps.sentences import count_sentences, sentences


def column(texts):
    return pa.chunked_array([pa.array(texts, pa.large_string())])


def tokens(text):
    """Words and the white space that spaCy takes for words: runs less one plain space after a word."""
    result = []
    for match in re.finditer(r"\s+|\S+", text):  # Python's \s is isspace here: see the alphabet
        run = match.group()
        if not run[0].isspace():
            result += split_chunk(run)
            continue
        run = run.removeprefix(" ") if result else run
        if run:
            result.append(run)
    return result


def plain(text):
    """How many sentences the loop finds, never less than one."""
    count, seen_end = 1, False
    for token in tokens(text):
        is_end = token in SENTENCE_ENDS
        is_punctuation = all(unicodedata.category(c)[0] == "P" for c in token)
        if seen_end and not is_end and not is_punctuation:
            count += 1
            seen_end = False
        elif is_end:
            seen_end = True
    return count


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 1),
        ("One sentence", 1),
        ("One. Two! Three? Four", 4),
        ("Mr. Smith went. Home.", 2),
        ('He said "stop." Then he left.', 2),
        ("Wait... what", 1),
        ("First.Second", 2),
        ("one.two", 1),
        ("End.  ) next", 2),
        ("End. ) next", 2),
        ("End.", 1),
        ("End.  ", 2),
        ("End. ", 1),
        ("你好。 世界。 再见", 3),
        ("a. b. c.", 1),
    ],
)  # fmt: skip
def test_golden(text, expected):
    """Counted by hand, or written down from spaCy: abbreviations and one-letter words with a stop end none."""
    assert count_sentences(segment(column([text]))).tolist() == [expected]


TEXTS = st.lists(
    st.one_of(
        st.text("aB.!?\"'()  \n\t。é…$", max_size=30),
        st.lists(st.sampled_from(["Word", "end.", "end!", ")", "  ", "\n", '."', "$", "Mr.", "…", "。"])).map(" ".join),
    ),
    max_size=8,
)


@given(TEXTS)
@settings(deadline=None, max_examples=400)
def test_is_the_plain_reading(texts):
    """The loop over tokens finds as many sentences in each text."""
    assert count_sentences(segment(column(texts))).tolist() == [plain(text) for text in texts]


@given(TEXTS)
@settings(deadline=None, max_examples=200)
def test_sentences_are_the_text(texts):
    """The sentences of each text, joined, are the text; there are as many as are counted."""
    words = segment(column(texts))
    pieces = sentences(words)
    lists = pa.LargeListArray.from_arrays(pa.array(pieces.offsets), pieces.texts).to_pylist()
    assert ["".join(each) for each in lists] == texts
    assert pieces.counts.tolist() == count_sentences(words).tolist()


def test_given_words_have_no_place():
    """Words from lists have no place in the text: asking for sentences says so."""
    given_ = Segmentation.from_lists(column(["a b"]), pa.array([["a", "b"]], pa.large_list(pa.large_string())))
    with pytest.raises(ValueError, match="not known"):
        count_sentences(given_)
