"""words_of_chunks: for any chunks at once what split_chunk says of each."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.steps import chunk_words
from datapipe.steps.chunk_words import words_of_chunks
from datapipe.steps.english_words import split_chunk
from datapipe.steps.word_exceptions import EXCEPTIONS

# What the rules are about, so that random chunks run into them.
PIECES = [
    *"abzAZ019", *".,:;!?'\"()[]{}<>=+-*^/%$#@_~|&§°", *"—–…“”’‘´«»。、！", *"éßДдω中ー☃🙂²µ",
    *("'s", "’S", "n't", "km", "US$", "http://", "www.", ".com", "the", "don't", "a.m.", ":)", "...", "--", "—-"),
    *("U.S.", "Mr.", "'em", "I'm", "x@y.z", "192.168.0.1", "IS", "°C", "8)", "(:", "''"),
]  # fmt: skip
CHUNKS = st.lists(
    st.one_of(
        st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map("".join),
        st.sampled_from(sorted(EXCEPTIONS)),
        st.tuples(st.sampled_from(PIECES), st.sampled_from(sorted(EXCEPTIONS)), st.sampled_from(PIECES)).map("".join),
        st.text(st.characters(exclude_categories=["Cs", "Z"]), min_size=1, max_size=12),
    ).map(lambda s: "".join(s.split())),
    max_size=30,
).map(lambda chunks: [chunk for chunk in chunks if chunk])


def words(chunks):
    found = words_of_chunks(chunks)
    text = "".join(chunks)
    ends = np.append(found.starts[1:], len(text))[: len(found.starts)]
    flat = [text[a:b] for a, b in zip(found.starts, ends, strict=True)]
    assert len(found.counts) == len(chunks)
    bounds = np.concatenate(([0], np.cumsum(found.counts)))
    return [tuple(flat[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)]


@given(CHUNKS)
@settings(deadline=None, max_examples=400)
def test_is_split_chunk(chunks):
    """The words of many chunks at once are those of each alone."""
    assert words(chunks) == [split_chunk(chunk) for chunk in chunks]


def test_many_random_chunks():
    """Ten thousand chunks of the pieces that rules are about, in one call."""
    draw = random.Random(5)
    chunks = ["".join(draw.choices(PIECES, k=draw.randrange(1, 10))) for _ in range(10_000)]
    assert words(chunks) == [split_chunk(chunk) for chunk in chunks]


def test_plain_words_are_not_looped_over(monkeypatch):
    """Words, words with punctuation and numbers are settled without split_chunk."""
    seen = []
    monkeypatch.setattr(chunk_words.english_words, "split_chunk", lambda chunk: seen.append(chunk) or (chunk,))
    plain = [
        "word",
        "Word,",
        "(word)",
        '"Stop!"',
        "well-known",
        "foo_bar()",
        "1,234",
        "don't",
        "std::vector<int>",
        "a.b",
    ]
    found = words(plain)
    assert set(seen) <= {"don't"}
    assert found[3] == ('"', "Stop", "!", '"')
    assert words([]) == []
