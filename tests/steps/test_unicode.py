"""unicode: NFC, one kind of line end, no controls, no trailing white space; idempotent."""

from __future__ import annotations

import unicodedata

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datapipe.steps import Keys, bind, run_steps


def run(texts, **options):
    table = pa.table({"row_id": [str(i) for i in range(len(texts))], "text": pa.array(texts, pa.large_string())})
    return run_steps(table, [bind("unicode", options)], Keys())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cafe\u0301", "caf\u00e9"),
        ("\u212b", "\u00c5"),  # ANGSTROM SIGN has a canonical equivalent
        ("\ufb01", "\ufb01"),  # a ligature is compatibility: NFC leaves it
        ("e\0\u0301", "\u00e9"),  # the NUL goes before NFC
        ("한국".encode().decode(), "한국"),
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("a\r\r\nb", "a\n\nb"),
        ("page\x0cpage\x0bline\x85end", "page\npage\nline\nend"),
        (
            "bell\x07 esc\x1b[0m del\x7f c1\x9f",
            "bell esc[0m del c1Ÿ",
        ),  # a C1 control is Windows-1252's, as for browsers
        ("tab\tstays", "tab\tstays"),
        ("trail  \t\nnext\u00a0\u3000\n\nend  ", "trail\nnext\n\nend"),
        ("\n\n  start", "start"),
        ("in  side   stays", "in  side   stays"),
        ("  indented line\n    kept", "indented line\n    kept"),
        ("👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"),
        ("שלום\u200f", "שלום\u200f"),
        ("a\u202eb\u202c", "ab\u202c"),
        ("cafÃ©", "café"),
        ("cafÃƒÂ©", "café"),  # twice
        ("â€œquotedâ€\x9d \x93too\x94", "“quoted” “too”"),
        ("Ã\x85ngstrom\x85line", "Ångstrom\nline"),
        ("naïve Ärger œuvre Ða", "naïve Ärger œuvre Ða"),  # looks odd, is right
        ("one line cafÃ©\nthe next naïve", "one line café\nthe next naïve"),
        ("caf\u00c3\0\u00a9", "café"),  # is mojibake only once the NUL is gone
        ("\U0010ffff", "\U0010ffff"),
    ],
)
def test_golden(text, expected):
    """Each rule, by hand."""
    assert run([text]).table["text"].to_pylist() == [expected]


@pytest.mark.parametrize("text", ["", " ", "\t\n\r\n", "\0\x01\x1f", "\u00a0\u2003\u3000", "\x85\u2028\u2029"])
def test_empty_is_dropped(text):
    """A row with nothing left is dropped as empty, and its neighbours stay."""
    ran = run(["a", text, "b"])
    assert ran.table["text"].to_pylist() == ["a", "b"]
    assert ran.marked.to_pylist() == [
        {"row_id": "1", "step": "unicode", "kind": "drop", "reason": "empty", "detail": None}
    ]


def test_zero_width():
    """Zero-width characters stay by default (they spell emoji and Persian) and go when asked."""
    text = "a\u200bb\u200cc\u200dd\u2060e\ufefff"
    assert run([text]).table["text"].to_pylist() == [text]
    assert run([text], zero_width=True).table["text"].to_pylist() == ["abcdef"]
    assert run(["\u200b\u200d"], zero_width=True).marked["reason"].to_pylist() == ["empty"]


def test_strip_off():
    """strip=False leaves white space alone, and still drops a row of nothing else."""
    ran = run(["  a  \n b \n", "  \n"], strip=False)
    assert ran.table["text"].to_pylist() == ["  a  \n b \n"]
    assert ran.marked["row_id"].to_pylist() == ["1"]


@given(
    st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"])),
            st.text(st.sampled_from(" \t\n\r\0\x0b\x0c\x85\u0301\u0327ea\u1100\u1161\u11a8\u200b\ufeff\u00a0")),
        ),
        max_size=6,
    ),
    st.booleans(),
    st.booleans(),
)
@settings(deadline=None)
@example(["e\u200b\u0301", "a\u0327\u200d\u0301"], True, True)
def test_invariant(texts, zero_width, strip):
    """NFC, no control character but tab and newline, no white space at a line's end, and idempotent."""
    once = run(texts, zero_width=zero_width, strip=strip).table["text"].to_pylist()
    for text in once:
        assert unicodedata.is_normalized("NFC", text)
        assert not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in text)
        if strip:
            assert all(line == line.rstrip(" \t\u00a0") for line in text.split("\n"))
    assert run(once, zero_width=zero_width, strip=strip).table["text"].to_pylist() == once


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"])), max_size=6))
@settings(deadline=None)
def test_nfc_is_pythons(texts):
    """The columnar NFC is unicodedata's, for every string of characters that this Python knows."""
    expected = [unicodedata.normalize("NFC", text) for text in texts]
    got = run(texts, strip=False, mojibake=False, bidi="none").table["text"].to_pylist()
    assert got == [text for text in expected if text.strip()]


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        ({"mojibake": False}, "cafÃ©", "cafÃ©"),
        ({"bidi": "none"}, "a\u202eb\u2066", "a\u202eb\u2066"),
        ({"bidi": "all"}, "a\u202eb\u2066c\u200f", "abc"),
        ({"single_blanks": True}, "a  b\t\u00a0c\n  d", "a b c\n d"),
        ({"max_blank_lines": 1}, "a\n\n\n\nb\n \n \nc\n\nd", "a\n\nb\n\nc\n\nd"),
        ({"max_blank_lines": 0}, "a\n\n\nb\nc", "a\nb\nc"),
        ({"max_blank_lines": 1, "strip": False}, "a\n \n \n  b", "a\n\n  b"),
    ],
)
def test_options(options, text, expected):
    """What is kept and what goes, as the options say."""
    assert run([text, "clean"], **options).table["text"].to_pylist() == [expected, "clean"]


def test_mojibake_is_counted():
    """Repaired rows are counted, those that merely looked odd are not."""
    ran = run(["cafÃ©", "café", "naïve Ärger", "\x93quoted\x94"])
    assert ran.counters == {"unicode.mojibake": 2}
    assert ran.signals["unicode.mojibake"].to_pylist() == [1, 0, 0, 1]


def test_nfc_suspects_are_all():
    """Every character that NFC changes, or composes with the one before it, is looked for; so clean rows are in NFC."""
    import polars as pl

    from datapipe.steps.unicode import _NOT_NFC

    every = pl.Series([chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000])
    suspect = set(every.filter(every.str.contains(_NOT_NFC)).to_list())
    assert set(every.filter(every.str.normalize("NFC") != every).to_list()) <= suspect
    parts = every.str.normalize("NFD").to_list()
    assert {character for part in parts for character in part[1:]} <= suspect
    assert {c for c in every.to_list() if unicodedata.combining(c)} <= suspect
    assert len(suspect) < 10_000
