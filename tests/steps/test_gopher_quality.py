"""gopher_quality@whitespace: each rule at its threshold and beyond, by hand, and beside a plain reading."""

from __future__ import annotations

import dataclasses
import re
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import ConfigError
from datapipe.steps import find_step, options_from
from datapipe.steps.gopher_quality import (
    REASONS,
    STOP_WORDS,
    GopherQualityOptions,
    gopher_reasons,
    gopher_signals,
)
from tests.steps.one_text import column, reason_of, words

NAME = "gopher_quality@whitespace"


def reason(text, **options):
    return reason_of(NAME, text, options)


def test_anchor_thresholds():
    """The defaults are the published ones."""
    assert dataclasses.asdict(GopherQualityOptions()) == {
        "min_words": 50,
        "max_words": 100_000,
        "min_mean_word_length": 3.0,
        "max_mean_word_length": 10.0,
        "max_hash_ratio": 0.1,
        "max_ellipsis_ratio": 0.1,
        "max_bullet_lines": 0.9,
        "max_ellipsis_lines": 0.3,
        "min_alpha_words": 0.8,
        "min_stop_words": 2,
        "stop_words": ("the", "be", "to", "of", "and", "that", "have", "with"),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # solid words: 49 | 50 … 100,000 | 100,001; a symbol word is none
        (words(49), "gopher_too_few_words"),
        (words(50), None),
        (words(49) + " --", "gopher_too_few_words"),
        (words(50) + " -- ?! =", None),
        (words(49) + " 7", None),
        ("", "gopher_too_few_words"),
        (words(100_000), None),
        (words(100_001), "gopher_too_many_words"),
        (words(100_000) + " -- --", None),
        # mean length: 'the of' + 48 words; 50 words of 150 characters is 3
        (" ".join(["the", "of", "word"] + ["abc"] * 47), None),
        (" ".join(["the", "of"] + ["abc"] * 48), "gopher_short_words"),
        # 500 characters in 50 words is 10, 501 is more; a symbol word does not count
        (" ".join(["the", "of", "x" * 15] + ["x" * 10] * 46 + ["x" * 20]), None),
        (" ".join(["the", "of", "x" * 16] + ["x" * 10] * 46 + ["x" * 20]), "gopher_long_words"),
        (" ".join(["the", "of", "x" * 15, "=" * 99] + ["x" * 10] * 46 + ["x" * 20]), None),
        # "#" per word: 10 of 100 words, then 11
        (words(100, extra=["a#b#"] * 5), None),
        (words(100, extra=["a#b#"] * 5 + ["c#"]), "gopher_too_many_hashes"),
        # ellipses per word: 10 of 100; "..." and "…" alike; four dots are one ellipsis, six are two
        (words(100, extra=["a...b…c"] * 5), None),
        (words(100, extra=["a...b…c"] * 5 + ["c…x"]), "gopher_too_many_ellipses"),
        (words(100, extra=["a....b"] * 10), None),
        (words(100, extra=["a......b"] * 5), None),
        (words(100, extra=["a......b"] * 5 + ["a...b"]), "gopher_too_many_ellipses"),
        # bullet lines: 9 of 10, then 10 of 10; "-" and "•", indented or not; "*" is Dolma's
        ("\n".join(["- the of a word longer"] * 5 + ["  •with the of words too"] * 4 + [words(40)]), None),
        ("\n".join(["- the of a word longer"] * 5 + ["\t•with the of words too"] * 5), "gopher_too_many_bullet_lines"),
        ("\n".join(["-the of word word word word word"] * 10), "gopher_too_many_bullet_lines"),
        ("\n".join(["*x the of word word word word"] * 10), None),
        # lines that end in an ellipsis: 3 of 10, then 4 of 10; white space after it does not matter
        ("\n".join(["the of " + "word " * 18 + "end…  "] * 2 + [words(20) + "..."] + [words(20)] * 7), None),
        ("\n".join([words(20) + "…"] * 4 + [words(20)] * 6), "gopher_too_many_ellipsis_lines"),
        # words with a letter: 40 of 50, then 39 of 50
        (words(50, extra=["1234"] * 10), None),
        (words(50, extra=["1234"] * 11), "gopher_too_few_alpha_words"),
        (words(50, extra=["1234"] * 10) + " ----", "gopher_too_few_alpha_words"),
        (words(50, extra=["123é"] * 50), "gopher_too_few_stop_words"),
        # different stop words: two, one twice is one; whole words, lower case, no punctuation
        ("the of " + "word " * 48, None),
        ("the the " + "word " * 48, "gopher_too_few_stop_words"),
        ("The of " + "word " * 48, "gopher_too_few_stop_words"),
        ("the of, " + "word " * 48, "gopher_too_few_stop_words"),
        ("the often " + "word " * 48, "gopher_too_few_stop_words"),
        ("word " * 48 + "with\nbe", None),
    ],
)  # fmt: skip
def test_golden(text, expected):
    """Each rule at its threshold and one step beyond it, counted by hand."""
    assert reason(text) == expected


def test_first_broken_rule_is_the_reason():
    """A text that breaks several rules gets the first in the documented order; switch rules off and the next shows."""
    text = "#…\n" * 10
    switched_off: dict[str, object] = {}
    seen = []
    for name, off in (
        ("min_words", 0),
        ("max_hash_ratio", 99.0),
        ("max_ellipsis_ratio", 99.0),
        ("max_ellipsis_lines", 1.0),
        ("min_alpha_words", 0.0),
        ("min_stop_words", 0),
    ):
        seen.append(reason(text, **switched_off))
        switched_off[name] = off
    assert seen == [
        "gopher_too_few_words",
        "gopher_too_many_hashes",
        "gopher_too_many_ellipses",
        "gopher_too_many_ellipsis_lines",
        "gopher_too_few_alpha_words",
        "gopher_too_few_stop_words",
    ]
    assert [REASONS.index(each) for each in seen] == sorted(REASONS.index(each) for each in seen)
    assert reason(text, **switched_off) is None


def test_signals_golden(signals_of):
    """Every signal of one small text, counted by hand."""
    text = "# The end of it...\n\n  - to be… \n• 3 -- #7\nwith 中文 x_1"
    assert signals_of(text) == {
        "words": 15,  # 5 + 3 + 4 + 3
        "solid_words": 11,  # less "#", "-", "•" and "--"
        "alpha_words": 9,
        "solid_chars": 30,  # 3 + 3 + 2 + 5, 2 + 3, 1 + 2, 4 + 2 + 3
        "hashes": 2,
        "ellipses": 2,
        "lines": 5,
        "bullet_lines": 2,
        "ellipsis_lines": 2,
        "stop_words": 3,
    }


@pytest.mark.parametrize(
    ("text", "lines"), [("", 0), ("a", 1), ("a\n", 1), ("a\nb", 2), ("\n", 1), ("\n\n", 2), ("a\n\nb\n", 3)]
)
def test_lines(signals_of, text, lines):
    """Lines as splitlines counts them: a final newline ends a line and begins none."""
    assert signals_of(text)["lines"] == lines == len(text.splitlines())


def plain_reading(text, stop_words=STOP_WORDS):
    """The signals as one would write them for one text, without polars or a regular expression engine of Rust."""
    tokens = re.findall(r"[^\s\x1c-\x1f]+", text)  # Python's \s has four control characters that Unicode's has not

    def symbol(c):
        return unicodedata.category(c)[0] in "PS"

    lines = text.split("\n")[: -1 if text.endswith("\n") or not text else None]
    solid = [token for token in tokens if not all(map(symbol, token))]
    ends = [line.rstrip() for line in lines]
    return {
        "words": len(tokens),
        "solid_words": len(solid),
        "alpha_words": sum(any(c.isalpha() for c in token) for token in tokens),
        "solid_chars": sum(map(len, solid)),
        "hashes": text.count("#"),
        "ellipses": text.count("...") + text.count("…"),
        "lines": len(lines),
        "bullet_lines": sum(line.lstrip().startswith(("•", "-")) for line in lines),
        "ellipsis_lines": sum(line.endswith(("...", "…")) for line in ends),
        "stop_words": len(set(tokens) & set(stop_words)),
    }


@given(
    st.lists(
        st.one_of(
            # Characters this Python knows: a newer Unicode in polars may have assigned the others.
            st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"])),
            st.lists(
                st.sampled_from(
                    [
                        *STOP_WORDS,
                        *("The", "with,", "#", "##a", "...", "…", "....", "•", "-", "--", "12", "é", "中文"),
                        *("\n", "\n\n", " ", "\t", "\u00a0", "\u2003", "a-b", "•x", "=" * 9, "$5", "word"),
                    ]
                )
            ).map("".join),
            st.lists(st.sampled_from(["the", "of", "#", "…", "•", "-", "x1", "9", "\n", "end..."])).map(" ".join),
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(deadline=None)
def test_signals_are_the_plain_reading(texts):
    """Columnar signals equal the plain ones for any text."""
    assert gopher_signals(column(texts)).to_pylist() == [plain_reading(text) for text in texts]


def test_stored_signals_judge_alike(awkward):
    """Reasons from signals that were stored equal the step's, also under other thresholds: nothing else enters."""
    signals = gopher_signals(column(awkward))
    assert all(field.type == pa.uint32() for field in signals.schema)
    for options in (GopherQualityOptions(), GopherQualityOptions(min_words=1, min_stop_words=0, max_hash_ratio=3.0)):
        expected = [reason(text, **dataclasses.asdict(options)) for text in awkward]
        assert gopher_reasons(signals, options).to_pylist() == expected


def test_shares_equal_to_a_threshold_stay():
    """A share equal to a decimal threshold is on it, not beyond, for every number of words: no rounding decides."""
    n = range(5, 5000, 5)
    zero = [0] * len(n)
    columns = {name: pa.array(zero, pa.uint32()) for name in plain_reading("")}
    columns |= {
        "words": pa.array(n, pa.uint32()),
        "lines": pa.array([2 * k for k in n], pa.uint32()),
        "alpha_words": pa.array([k * 4 // 5 for k in n], pa.uint32()),
        "bullet_lines": pa.array([k * 9 // 5 for k in n], pa.uint32()),
        "ellipsis_lines": pa.array([k * 3 // 5 for k in n], pa.uint32()),
    }
    options = GopherQualityOptions(min_words=0, min_stop_words=0)
    assert gopher_reasons(pa.table(columns), options).null_count == len(n)


def test_other_stop_words():
    """Stop words of another language, and none."""
    text = "der die " + "Wort " * 48
    assert reason(text) == "gopher_too_few_stop_words"
    assert reason(text, stop_words=["der", "die", "und"]) is None
    assert reason(text, min_stop_words=0) is None
    assert reason("a.c x " + "Wort " * 48, stop_words=["abc", "x"], min_stop_words=2) == "gopher_too_few_stop_words"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_words": -1}, "min_words = -1"),
        ({"min_words": 10, "max_words": 9}, "lies above max_words"),
        ({"min_mean_word_length": 11.0}, "lies above max_mean_word_length"),
        ({"max_bullet_lines": 1.1}, "at most 1"),
        ({"min_alpha_words": float("nan")}, "nan"),
        ({"max_hash_ratio": float("inf")}, "inf"),
        ({"min_stop_words": 9}, "at most 8"),
        ({"stop_words": []}, "min_stop_words = 2"),
        ({"stop_words": ["two words", "x"]}, "two words"),
        ({"stop_words": ["", "x"]}, "''"),
        ({"min_words": 50.0}, "whole number"),
        ({"min_words": True}, "whole number"),
        ({"min_word": 50}, "did you mean 'min_words'"),
    ],
)
def test_bad_options(options, message):
    """Options of a wrong type, out of range or against each other say what is wrong."""
    with pytest.raises(ConfigError, match=message):
        options_from(find_step(NAME), options)
