"""Mojibake is found where ftfy would find it, and repaired as ftfy repairs it."""

from __future__ import annotations

import ftfy
import polars as pl
import pytest
from ftfy.badness import is_bad
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datapipe.steps.mojibake import repair, repaired, suspect_pattern

WORDS = [
    "café",
    "naïve",
    "Ärger",
    "“quoted”",
    "Привет мир",
    "日本語",
    "Ελλάδα",
    "it’s",
    "œuvre — été",
    "5 €",
    "Łódź",
    "plain",
]
ENCODINGS = ["latin-1", "windows-1252", "windows-1251", "windows-1250", "cp437", "macroman", "iso-8859-2"]


def garbled(text, encoding, times=1):
    for _ in range(times):
        text = text.encode().decode(encoding, "replace")
    return text


MIXED = st.lists(
    st.one_of(
        st.builds(garbled, st.sampled_from(WORDS), st.sampled_from(ENCODINGS), st.integers(0, 2)),
        st.sampled_from(WORDS),
        st.text(st.characters(max_codepoint=0x2FF), max_size=8),
        st.sampled_from(["\n", " ", "\t", "Ã ", "\x1cÀ€", "^", "[", "&&", "~~", "--"]),
    ),
    max_size=8,
).map("".join)


@given(st.lists(MIXED, min_size=1, max_size=6))
@settings(deadline=None, max_examples=300)
@example(["a\nÃ b"])
@example(["x\x1cÀ€"])
def test_no_suspect_is_missed(texts):
    """The columns' expression finds every line that ftfy's finds."""
    found = pl.Series(texts, dtype=pl.String).str.contains(suspect_pattern()).to_list()
    for text, suspect in zip(texts, found, strict=True):
        if any(is_bad(line) for line in text.split("\n")):
            assert suspect, repr(text)


@given(st.lists(MIXED.filter(lambda text: "\x85" not in text), min_size=1, max_size=6))
@settings(deadline=None, max_examples=200)
def test_as_ftfy_does(texts):
    """Repaired columns are what ftfy gives for every line of every row, and `changed` says which differ."""
    expected = ["\n".join(ftfy.fix_encoding(line) for line in text.split("\n")) for text in texts]
    got, changed = repaired(pl.Series(texts, dtype=pl.String))
    assert got.to_list() == expected
    assert changed.to_list() == [before != after for before, after in zip(texts, expected, strict=True)]


@pytest.mark.parametrize("word", WORDS[:7])
@pytest.mark.parametrize("encoding", ["latin-1", "windows-1252"])
def test_golden(word, encoding):
    """UTF-8 read as Latin-1 or Windows-1252 comes back, beside a line that is right."""
    try:
        wrong = word.encode().decode(encoding)
    except UnicodeDecodeError:
        pytest.skip(f"{encoding} has no such byte")
    assert repair(f"{wrong}\nnaïve, 5 €") == f"{word}\nnaïve, 5 €"


def test_line_ends_of_old():
    """U+0085 alone is a line end; as a byte of a character read as Latin-1 it is part of it."""
    assert repair("one\x85two \x93x\x94") == "one\ntwo “x”"
    assert repair("Ã\x85ngstrÃ¶m") == "Ångström"


def test_the_input_is_left_alone():
    """Repair gives a new column."""
    before = pl.Series(["cafÃ©", "x"])
    repaired(before)
    assert before.to_list() == ["cafÃ©", "x"]


def test_a_long_line():
    """A line of millions of characters is repaired in pieces."""
    text = "plain words " * 200_000 + "cafÃ©"
    assert repair(text).endswith("café")
