"""The user's tables: read as they stand, refused with file and line, and templates back off from the longest."""

from __future__ import annotations

import pytest

from datapipe.errors import ConfigError
from datapipe.steps.augment_text_edits import rephrase
from datapipe.steps.augment_text_tables import read_synonyms, read_templates


@pytest.fixture
def write(tmp_path):
    def of(content):
        path = tmp_path / "table.tsv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return of


def always(templates, text):
    return rephrase(text, 1.0, lambda: 0.0, templates)


def test_synonyms(write):
    """Words are lower-cased, lines of one word add up, comments and blank lines are none."""
    path = write("\ufeff# of words\n\nBig\tlarge\thuge\r\nbig\tlarge\tgreat one\n# \nc#\tsharp\t\n")
    assert read_synonyms(path) == {"big": ("large", "huge", "great one"), "c#": ("sharp",)}


@pytest.mark.parametrize(
    ("template", "text", "expected"),
    [
        ("in order to {do}\tto {do}", "He ran In order  to win.", ("He ran To win.", 1)),
        ("in order to {do}\tto {do}", "begin order to win", ("begin order to win", 0)),
        ("a lot of\tmany", "a lot of cats, a lot offered (a lot of)", ("many cats, a lot offered (many)", 2)),
        ("{who} gave {what} to {whom}\t{whom} got {what} from {who}", "Ann gave two red books to Bo", None),
        ("not only {a} but {b}\t{b} and {a}", "not only one two three four five six but x", None),
        ("c++ (old)\tc", "in C++ (old)", ("in C", 1)),
    ],
)
def test_templates(write, template, text, expected):
    """Whole words alone, in any case and spacing; a slot has one to five words, the fewest that fit."""
    if expected is None:
        expected = ("Bo got two red books from Ann", 1) if "gave" in text else (text, 0)
    assert always(read_templates(write(template)), text) == expected


def test_templates_back_off(write):
    """The template with the most words of its own is taken where it fits, else one with fewer."""
    templates = read_templates(write("as {x}\tA {x}\nas soon as\tonce\nas soon as possible\tat once\n"))
    assert always(templates, "do it as soon as possible") == ("do it at once", 1)
    assert always(templates, "do it as soon as you can") == ("do it once you can", 1)
    assert always(templates, "do it as I say") == ("do it A I say", 1)


@pytest.mark.parametrize("text", ["as " * 20_000, "x" * 200_000, "a b " * 20_000 + "to", " \t" * 50_000])
def test_templates_take_time_in_proportion(write, text):
    """Of texts made to be tried again and again, each place is tried once: the limit is this test's own time."""
    templates = read_templates(write("as {x} as {y} as {z} ever\tq\n{a} to {b}\tq\n"))
    result, changed = always(templates, text)
    assert result == text
    assert changed == 0


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (read_synonyms, "big\tlarge\nsmall\n", "line 2: 'small'"),
        (read_synonyms, "big\t\t\n", "line 1"),
        (read_synonyms, "\tlarge\n", "line 1"),
        (read_synonyms, "very big\thuge\n", "line 1: 'very big' is no single word"),
        (read_synonyms, "# only this\n", "holds no entry"),
        (read_synonyms, b"\xff\tx\n", "not UTF-8"),
        (read_templates, "{x}\tq {x}\n", "fits everything"),
        (read_templates, "a {x} b {x}\tq\n", "a slot twice"),
        (read_templates, "a {x}\tb {y}\n", "'b {y}' has {y}"),
    ],
)
def test_bad_tables(write, read, content, message):
    """What is wrong is said with the file and the line."""
    with pytest.raises(ConfigError, match=message.replace("{", r"\{").replace("}", r"\}")):
        read(write(content))


def test_missing_table():
    """A table that is not there is named."""
    with pytest.raises(ConfigError, match="nowhere"):
        read_synonyms("nowhere.tsv")
